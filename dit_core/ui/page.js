// The page's little JavaScript: what only a browser can do. Every function is called by an event of explore.py.
window.dit = (() => {
  const hints = /*HINTS*/ {};

  // One-line explanations on hover; elements may come late, so their titles are set whenever the page changes.
  const explain = () => {
    for (const [id, hint] of Object.entries(hints)) {
      const element = document.getElementById(id);
      if (element && element.title !== hint) element.title = hint;
    }
  };

  const paint = () => {
    const chosen = localStorage.getItem("dit-dark");
    if (chosen !== null) document.body.classList.toggle("dark", chosen === "1");
  };

  const watch = () => {
    paint();
    explain();
    new MutationObserver(explain).observe(document.body, { childList: true, subtree: true });
  };
  // On a phone the cards are below the controls: asking goes there.
  addEventListener("click", (event) => {
    const asks = event.target.closest?.("#dit-ask, #dit-surprise");
    if (asks && innerWidth <= 760) document.getElementById("dit-right").scrollIntoView({ behavior: "smooth" });
  });

  if (document.body) watch();
  else addEventListener("DOMContentLoaded", watch);

  const say = (words) => {
    const note = document.createElement("div");
    note.className = "dit-toast";
    note.setAttribute("role", "status");
    note.textContent = words;
    document.body.append(note);
    setTimeout(() => note.remove(), 2500);
  };

  return {
    dark() {
      const dark = !document.body.classList.contains("dark");
      localStorage.setItem("dit-dark", dark ? "1" : "0");
      document.body.classList.toggle("dark", dark);
    },

    address(query) {
      if (query) history.replaceState(null, "", "?" + query);
    },

    save(name, text) {
      if (!name) return;
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    },

    async copy(text) {
      if (!text) return;
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        // No clipboard for pages that are not served securely: the old way.
        const area = Object.assign(document.createElement("textarea"), { value: text });
        document.body.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
      }
      say("Copied.");
    },
  };
})();
