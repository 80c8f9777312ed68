"""What a browser does with what an event hands it: `js` of Gradio's events; the functions are in page.js."""

TURN = "(...values) => [...values.slice(0, -1), window.dit.turn()]"
ADDRESS = "(query) => window.dit.address(query)"
SAVE = "(name, text) => window.dit.save(name, text)"
COPY = "(text) => window.dit.copy(text)"
SEARCH = "() => [null, window.location.search]"
GO = "(path) => window.dit.go(path)"
LINK = "() => window.dit.copy(window.location.href)"
