# frozen_string_literal: true

# Loaded first in every Ruby that `run` starts. RUBYLIB puts the tree's standard library in front of its gems, where the
# old json of the standard library would hide the json gem and change how floats are written; this moves it behind them,
# as on an installed system, and drops the host's own Ruby.
tree = "#{ENV.fetch("PYQIK_TREE")}/"
own = $LOAD_PATH.select { |directory| directory.start_with?(tree) }
$LOAD_PATH.replace(($LOAD_PATH - own).reject { |directory| directory.start_with?("/usr/lib/") } + own)
