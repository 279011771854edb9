# frozen_string_literal: true

require "sidekiq/api"

# What an operator does through Sidekiq's own API. "to" says on what, "action" names the method.
module Act
  SETS = {"retry" => Sidekiq::RetrySet, "dead" => Sidekiq::DeadSet, "schedule" => Sidekiq::ScheduledSet}.freeze

  def self.call(request)
    case request.fetch("to")
    when "process" then process(request.fetch("identity"), request.fetch("action"))
    when "entry" then entry(request)
    when "set" then SETS.fetch(request.fetch("set")).new.public_send(request.fetch("action"))
    when "queue" then Sidekiq::Queue.new(request.fetch("name")).clear
    when "job" then job(request.fetch("queue"), request.fetch("jid")).delete
    when "iteration" then Sidekiq::Client.new.cancel!(request.fetch("jid"))
    else raise ArgumentError, "nothing to act on is called #{request["to"]}"
    end
    true
  end

  # quiet!, stop!, dump_threads
  def self.process(identity, action)
    found = Sidekiq::ProcessSet.new.find { |process| process.identity == identity }
    raise ArgumentError, "no process #{identity}" unless found

    found.public_send(action)
  end

  # retry, kill, delete, add_to_queue; reschedule takes "at".
  def self.entry(request)
    entry = SETS.fetch(request.fetch("set")).new.find { |each| each.jid == request.fetch("jid") }
    raise ArgumentError, "no entry #{request["jid"]} in #{request["set"]}" unless entry

    entry.public_send(request.fetch("action"), *[request["at"]].compact)
  end

  def self.job(queue, jid)
    Sidekiq::Queue.new(queue).find_job(jid) || raise(ArgumentError, "no job #{jid} in queue #{queue}")
  end
end
