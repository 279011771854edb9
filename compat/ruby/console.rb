# frozen_string_literal: true

# One long-lived Ruby that does what it is told: a line of JSON in, {"command": …, "arguments": …}, a line of JSON out,
# {"value": …} or {"error": …}. Ends when its input does.
answers = $stdout.dup
$stdout.reopen($stderr) # Sidekiq logs to standard output, where only answers belong

require_relative "app"
require_relative "push"
require_relative "read"
require_relative "act"

COMMANDS = {"push" => Push, "read" => Read, "act" => Act}.freeze

def answer(line)
  request = JSON.parse(line)
  JSON.generate("value" => COMMANDS.fetch(request.fetch("command")).call(request.fetch("arguments")))
rescue StandardError => error
  JSON.generate("error" => "#{error.class}: #{error.message}", "backtrace" => error.backtrace.first(5))
end

answers.puts(JSON.generate("value" => {"sidekiq" => Sidekiq::VERSION, "ruby" => RUBY_VERSION}))
answers.flush
$stdin.each_line do |line|
  answers.puts(answer(line))
  answers.flush
end
