// Keeps the page at the moment it is looked at: the daemon tells what has changed, and only that is replaced.
'use strict';
(() => {
  const live = document.getElementById('live');
  const shape = document.body.dataset.shape;
  if (!live || !shape || typeof EventSource === 'undefined') return;

  // A connection that ends is opened again by the browser; one that is refused, by us, and less and less often.
  const PAUSE_FIRST = 2000;
  const PAUSE_MOST = 60000;
  let pause = PAUSE_FIRST;
  let source = null;
  let timer = 0;

  // Read aloud, so only told when it is another.
  const say = (words, state) => {
    if (live.textContent !== words) live.textContent = words;
    live.dataset.state = state;
  };

  const show = (told) => {
    if (told.shape !== shape) {
      location.reload();
      return;
    }
    document.title = told.title;
    for (const [id, html] of told.regions) {
      const place = document.getElementById(id);
      if (place) place.innerHTML = html;
    }
    say('Live', 'live');
  };

  const shut = () => {
    clearTimeout(timer);
    if (source) source.close();
    source = null;
  };

  const open = () => {
    shut();
    if (document.hidden) return;
    source = new EventSource('/events');
    source.addEventListener('open', () => { pause = PAUSE_FIRST; });
    source.addEventListener('regions', (event) => show(JSON.parse(event.data)));
    source.addEventListener('error', () => {
      const at = new Date().toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
      if (live.dataset.state !== 'lost') say(`No connection to mailweir since ${at}`, 'lost');
      if (source && source.readyState === EventSource.CLOSED) {
        shut();
        timer = setTimeout(open, pause);
        pause = Math.min(pause * 2, PAUSE_MOST);
      }
    });
  };

  // A page nobody sees holds no connection.
  document.addEventListener('visibilitychange', () => (document.hidden ? shut() : open()));
  window.addEventListener('pagehide', shut);
  window.addEventListener('pageshow', open);
})();
