"""Creates the skeleton of a new plugin: `corepy new-plugin NAME`.

`template/` holds the skeleton; `files` fills in the plugin's name and writes it into a folder. The
command is `corepy.commands.new_plugin`. `examples/corepy-example` is its output for the name
"example".
"""
