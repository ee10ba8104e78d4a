"""The browser demo: one page on which every task answers. `decathlon demo` starts it, `docs/demo.md` describes it.

`page` and `server` need Gradio (extra `[demo]`); the other modules, which turn an input into what a tab shows, do not.
"""
