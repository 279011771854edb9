# frozen_string_literal: true

require "sidekiq/iterable_job"

# The long jobs of compat/iterables.py, in Ruby: the same names, the same items, the same ledger and gate. They know one
# word more, "flush": to stay at the item for so long that Sidekiq writes the state before the next one.
module Long
  # What a job goes over from a cursor on, each item as it is written down, with its own cursor.
  def self.pairs(job_class, source, cursor)
    job = Object.const_get(job_class).new
    given = job.build_enumerator(source, cursor: cursor).to_a.select { |item, _at| job.given?(item) }
    given.map { |item, at| [job.shown(item), at] }
  end

  module Gated
    def each_iteration(item, _source)
      return unless given?(item)

      write("item", shown(item))
      case heard
      when "fail" then raise ArgumentError, "told to fail"
      when "flush" then sleep(Sidekiq::Job::Iterable::STATE_FLUSH_INTERVAL)
      end
    end

    %w[on_start on_resume on_stop on_cancel on_complete].each do |callback|
      define_method(callback) { write(callback) }
    end

    # Whether Python gives this item, too.
    def given?(_item)
      true
    end

    # An item as it is written down.
    def shown(item)
      item
    end

    def write(what, value = nil)
      Sidekiq.redis { |redis| redis.rpush("ledger:#{jid}", JSON.generate(["ruby", what, value])) }
    end

    # The next word at the gate.
    def heard
      loop do
        word = Sidekiq.redis { |redis| redis.blocking_call(2, "blpop", "gate:#{jid}", 1) }
        return word.last if word
      end
    end
  end

  class Numbers
    include Sidekiq::IterableJob
    include Gated

    def build_enumerator(source, cursor:)
      array_enumerator(source, cursor: cursor)
    end
  end

  # One with a loop in Python.
  class Loop < Numbers
  end

  # A blank line is a row without fields in Ruby; no item in Python, where it only counts in the cursor.
  module Table
    def self.open(path)
      require "csv"
      CSV.open(path, headers: true, encoding: "UTF-8")
    end

    def self.full(rows)
      rows.map(&:fields).reject { |fields| fields.compact.empty? }
    end
  end

  class Rows
    include Sidekiq::IterableJob
    include Gated

    def build_enumerator(source, cursor:)
      csv_enumerator(Table.open(source), cursor: cursor)
    end

    def given?(item)
      Table.full([item]).any?
    end

    def shown(item)
      item.fields
    end
  end

  class Batches
    include Sidekiq::IterableJob
    include Gated

    def build_enumerator(source, cursor:)
      csv_batches_enumerator(Table.open(source), cursor: cursor, batch_size: 2)
    end

    def given?(item)
      Table.full(item).any?
    end

    def shown(item)
      Table.full(item)
    end
  end

  # A table in a file of SQLite.
  module Database
    LOCK = Mutex.new

    def self.relation(path, table)
      LOCK.synchronize { connect(path) }
      Class.new(ActiveRecord::Base) { self.table_name = table }.all
    end

    # Active Record takes its time to load: only here it is needed. To connect once more would close the connections of
    # the jobs beside this one.
    def self.connect(path)
      require "active_record"
      ActiveRecord::Base.establish_connection(adapter: "sqlite3", database: path) unless @path == path
      @path = path
    end
  end

  class Records
    include Sidekiq::IterableJob
    include Gated

    def build_enumerator(source, cursor:)
      active_record_records_enumerator(Database.relation(source, "products"), cursor: cursor, batch_size: 2)
    end

    def shown(item)
      [item.id, item.name]
    end
  end

  class RecordBatches
    include Sidekiq::IterableJob
    include Gated

    def build_enumerator(source, cursor:)
      active_record_batches_enumerator(Database.relation(source, "places"), cursor: cursor, batch_size: 2)
    end

    def shown(item)
      item.map { |place| [place.id, place.name] }
    end
  end
end
