"""The browser demo: a page on which to try every task. `decathlon demo` starts it, `docs/demo.md` describes it.

`page` and `server` need Gradio (extra `[demo]`); the other modules, which compute a tab's output, do not.
"""
