# frozen_string_literal: true

# An iterable job that does nothing, and Ruby's own loop: the counterpart of iteration_jobs.py.
require "json"
require "sidekiq"

module Bench
  def self.report(style, count, seconds)
    rss = File.read("/proc/self/statm").split[1].to_i * 4
    Sidekiq.redis { |conn| conn.call("RPUSH", "results", JSON.generate([style, seconds / count * 1e6, rss])) }
  end

  def self.now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  class Bare
    include Sidekiq::Job

    def perform(count)
      items = (0...count).to_a
      job = Iterable.new
      began = Bench.now
      items.each { |item| job.each_iteration(item, count) }
      Bench.report("bare calls", count, Bench.now - began)
    end
  end

  class Iterable
    include Sidekiq::IterableJob

    def build_enumerator(count, cursor:)
      @count = count
      array_enumerator((0...count).to_a, cursor: cursor)
    end

    def on_start
      @began = Bench.now
    end

    def each_iteration(_item, _count)
    end

    def on_complete
      Bench.report("IterableJob", @count, Bench.now - @began)
    end
  end
end

Sidekiq.configure_server { |config| config.logger.level = Logger::WARN }
