-- The application's tables, as Rails has them in db/structure.sql.
CREATE TABLE orders (id INTEGER PRIMARY KEY, shop_id INTEGER NOT NULL, placed_on TEXT NOT NULL, customer TEXT NOT NULL);
CREATE TABLE order_lines (
  order_id INTEGER NOT NULL REFERENCES orders, position INTEGER NOT NULL, product TEXT NOT NULL,
  quantity INTEGER NOT NULL, cents INTEGER NOT NULL, PRIMARY KEY (order_id, position)
);
CREATE TABLE customers (email TEXT PRIMARY KEY, name TEXT NOT NULL, born_on TEXT, credit_cents INTEGER NOT NULL);
