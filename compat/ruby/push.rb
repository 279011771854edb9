# frozen_string_literal: true

# Enqueues through Sidekiq's own client. One push is a hash: "how" names the method, the rest are its arguments.
#   {"how": "perform_async", "class": "RubyRecordJob", "args": [1], "set": {"queue": "low"}}
#   {"how": "perform_in", "class": …, "seconds": 60, "args": […]}      perform_at: "at" instead
#   {"how": "perform_bulk", "class": …, "args": [[1], [2]]}
#   {"how": "push", "item": {"class": "Py::Record", "queue": "python", "args": […]}}       push_bulk too
module Push
  # The jid of each push, in order; an array of jids for a bulk one.
  def self.call(pushes)
    pushes.map { |push| one(push) }
  end

  def self.one(push)
    how = push.fetch("how")
    return Sidekiq::Client.public_send(how, push.fetch("item")) if %w[push push_bulk].include?(how)

    job = Object.const_get(push.fetch("class"))
    job = job.set(push["set"]) if push["set"]
    args = push.fetch("args")
    case how
    when "perform_async" then job.perform_async(*args)
    when "perform_in" then job.perform_in(push.fetch("seconds"), *args)
    when "perform_at" then job.perform_at(push.fetch("at"), *args)
    when "perform_bulk" then job.perform_bulk(args)
    else raise ArgumentError, "no way to push is called #{how}"
    end
  end
end
