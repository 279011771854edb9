# frozen_string_literal: true

# Sidekiq::Web as a Rails application mounts it: the job classes are loaded, a session cookie carries the CSRF token.
require_relative "app"
require "sidekiq/web"
require "rack/session/cookie"

use Rack::Session::Cookie, secret: ENV.fetch("SESSION_SECRET"), same_site: true
run Sidekiq::Web
