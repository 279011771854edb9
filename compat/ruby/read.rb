# frozen_string_literal: true

require "sidekiq/api"

# What Sidekiq's own API says is in Redis, as plain hashes. Times are epoch seconds.
module Read
  STATS = %i[processed failed scheduled_size retry_size dead_size enqueued processes_size workers_size queues].freeze
  JOB = %i[klass display_class display_args args jid queue tags error_backtrace created_at enqueued_at latency].freeze
  PROCESS = %i[identity queues labels tag stopping? weights capsules version embedded?].freeze
  FAILURE = %w[error_class error_message retry_count failed_at retried_at].freeze

  # "of" says what to read; "name" which one of it.
  def self.call(request)
    case request.fetch("of")
    when "stats" then stats
    when "queues" then Sidekiq::Queue.all.to_h { |queue| [queue.name, {size: queue.size, latency: queue.latency}] }
    when "queue" then Sidekiq::Queue.new(request.fetch("name")).map { |job| job(job) }
    when "retry" then entries(Sidekiq::RetrySet.new)
    when "dead" then entries(Sidekiq::DeadSet.new)
    when "schedule" then entries(Sidekiq::ScheduledSet.new)
    when "processes" then Sidekiq::ProcessSet.new.map { |process| process(process) }
    when "work" then work
    when "metrics" then metrics(request.fetch("name"))
    when "iteration" then iteration(request.fetch("name"))
    when "pairs" then request.fetch("cursors").map { |at| Long.pairs(request.fetch("name"), request["source"], at) }
    else raise ArgumentError, "nothing to read is called #{request["of"]}"
    end
  end

  def self.stats
    stats = Sidekiq::Stats.new
    history = Sidekiq::Stats::History.new(1)
    STATS.to_h { |name| [name, stats.public_send(name)] }
      .merge(processed_today: history.processed.values.first, failed_today: history.failed.values.first)
  end

  def self.job(job)
    fields = JOB.select { |name| job.respond_to?(name) }.to_h { |name| [name, plain(job.public_send(name))] }
    fields.merge(FAILURE.to_h { |name| [name, job[name]] }).merge(item: job.item, value: job.value.dup.scrub)
  end

  def self.entries(set)
    set.map { |entry| job(entry).merge(score: entry.score, at: entry.at.to_f) }
  end

  def self.process(process)
    told = PROCESS.select { |name| process.respond_to?(name) }
    said = told.to_h { |name| [name.to_s.delete_suffix("?"), process.public_send(name)] }
    process.instance_variable_get(:@attribs).transform_keys(&:to_s).merge(said)
  end

  # 6.4 yields hashes, 7.2 and later objects.
  def self.work
    Sidekiq::WorkSet.new.map do |identity, thread, work|
      old = work.is_a?(Hash)
      payload = old ? work["payload"] : work.payload
      payload = JSON.parse(payload) if payload.is_a?(String)
      {identity: identity, thread: thread, queue: old ? work["queue"] : work.queue, payload: payload,
       run_at: old ? work["run_at"] : work.run_at.to_f}
    end
  end

  # Totals and the number of timed runs of one class in the last hour; null before Sidekiq 7.
  def self.metrics(job_class)
    return unless Gem::Version.new(Sidekiq::VERSION) >= Gem::Version.new("7")

    require "sidekiq/metrics/query"
    query = Sidekiq::Metrics::Query.new
    totals = query.top_jobs(minutes: 60).job_results[job_class]&.totals
    timed = query.for_job(job_class, minutes: 60).job_results[job_class].hist.values.flatten.sum
    {totals: totals, timed: timed}
  end

  # The state of an iterable job; null where this Sidekiq cannot read it.
  def self.iteration(jid)
    return unless Sidekiq.const_defined?(:IterableJobQuery)

    state = Sidekiq::IterableJobQuery.new([jid])[jid]
    state && {executions: state.executions, runtime: state.runtime, cursor: state.cursor, cancelled: state.cancelled}
  end

  def self.plain(value)
    value.is_a?(Time) ? value.to_f : value
  end
end
