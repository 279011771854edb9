# frozen_string_literal: true

# The Ruby application of these tests, for all three versions: what a sidekiq process, the Web UI and the console load.
require "json"
require "sidekiq"
require_relative "jobs"

autoload :Long, "#{__dir__}/iterables" # Sidekiq 7.3 and later have them
