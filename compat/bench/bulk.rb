# frozen_string_literal: true

# Enqueues BENCH_JOBS jobs with `perform_bulk` and prints the seconds that took: the counterpart of bulk.py.
require_relative "noop"

jobs = Integer(ENV.fetch("BENCH_JOBS"))
arguments = Array.new(jobs) { |index| [index, "customer-#{index}@example.com", {"shop" => index % 100}] }
Bench::Noop.perform_async(*arguments[0]) # connects

began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
Bench::Noop.perform_bulk(arguments)
puts Process.clock_gettime(Process::CLOCK_MONOTONIC) - began
