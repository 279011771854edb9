"""An application that runs Sidekiq today, and three of its jobs in Python: two exports and an import. Copy from here.

`short_export` is the least that a job can do, `long_export` keeps what it has written, `csv_import` says what is wrong
with the rows of a file; `web` shows how far they are. This runs them, in the directory above:

    pip install 'pyqik[sql,gcs]' psycopg
    export REDIS_URL=redis://localhost:6379/0 DATABASE_URL=postgresql+psycopg://localhost/shop
    export PYQIK_FILES=gs://shop-jobs/parts                  # or a directory that all workers share
    pyqik work -r shop.short_export -r shop.long_export -r shop.csv_import -q exports -q imports
"""
