# frozen_string_literal: true

# Jobs that Ruby runs, each leaving in Redis what it did; and the classes by which Ruby enqueues jobs that Python runs.
module Evidence
  # Appends {"jid", "args"} to the list `ran:<class>`.
  def leave_evidence(args)
    Sidekiq.redis { |redis| redis.rpush("ran:#{self.class.name}", JSON.generate("jid" => jid, "args" => args)) }
  end
end

class RubyRecordJob
  include Sidekiq::Job
  include Evidence

  def perform(*args)
    leave_evidence(args)
  end
end

class RubyFailingJob
  include Sidekiq::Job
  sidekiq_options retry: 2, backtrace: true

  def perform(message)
    raise ArgumentError, message
  end
end

# Runs until something is pushed to the list `release:<jid>`.
class RubySlowJob
  include Sidekiq::Job
  include Evidence

  def perform(*args)
    leave_evidence(args)
    sleep(0.05) until Sidekiq.redis { |redis| redis.rpop("release:#{jid}") }
  end
end

# Counts its runs in the hash `counted`; the counterpart of Py::Count in compat/jobs.py.
class RubyCountJob
  include Sidekiq::Job
  sidekiq_options queue: "ruby"
  sidekiq_retry_in { 1 }

  def perform(fails_first)
    runs = Sidekiq.redis { |redis| redis.hincrby("counted", jid, 1) }
    raise "the first time" if fails_first && runs == 1
  end
end

# Says which items it did in the list `items:<jid>`. Stopped between two of them, it goes on at the next.
if Gem::Version.new(Sidekiq::VERSION) >= Gem::Version.new("7.3")
  class RubyIterableJob
    include Sidekiq::IterableJob
    sidekiq_options queue: "ruby"

    def build_enumerator(count, _pause, cursor:)
      array_enumerator((0...count).to_a, cursor: cursor)
    end

    def each_iteration(item, _count, pause)
      Sidekiq.redis { |redis| redis.rpush("items:#{jid}", item) }
      sleep(pause)
    end
  end
end

# What a Rails application writes down for jobs that Python runs: a class name and a queue.
module Py
  class Record
    include Sidekiq::Job
    sidekiq_options queue: "python", retry: 3
  end

  class Failing
    include Sidekiq::Job
    sidekiq_options queue: "python", retry: 2, backtrace: 5
  end
end
