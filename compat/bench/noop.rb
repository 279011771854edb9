# frozen_string_literal: true

# The job that does nothing but count itself, and a middleware around it: the counterpart of noop_jobs.py.
require "json"
require "sidekiq"

Warning[:experimental] = false # IO::Buffer

# One byte for each job, shared with the benchmark. No two threads ever count the same job.
RAN = IO::Buffer.map(File.open(ENV.fetch("BENCH_LEDGER"), "r+"))

module Bench
  class Noop
    include Sidekiq::Job
    sidekiq_options queue: "bench"

    def perform(index, _email, _options)
      RAN.set_value(:U8, index, RAN.get_value(:U8, index) + 1)
    end
  end

  class Passing
    include Sidekiq::ServerMiddleware

    def call(_job, _payload, _queue)
      yield
    end
  end
end

Sidekiq.configure_server do |config|
  config.logger.level = Logger::WARN if ENV["BENCH_LOG"] == "warning"
  config.server_middleware { |chain| chain.add(Bench::Passing) }
end
