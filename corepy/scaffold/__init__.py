"""The start of a plugin of one's own: `corepy new-plugin NAME`.

`template/` is the skeleton; `files` says what it is for a name and writes it into a folder. The
command is `corepy.commands.new_plugin`.
`examples/corepy-example` is what comes out for the name "example".
"""
