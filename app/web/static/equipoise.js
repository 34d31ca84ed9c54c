// What a page does beyond HTML and htmx. Every page works without this file.

const token = () => document.querySelector('meta[name="csrf-token"]')?.content ?? '';
const on = (type, act, target = document, first = false) => target.addEventListener(type, act, first);

// Keys: `/` finds a participant; 0-9 answer the rating scale that has the focus ("1" then "0" is 10).

let typed = {};

on('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const writing = event.target.closest('input:not([type=radio],[type=checkbox]), textarea, select, [contenteditable]');
  if (writing) return;
  if (event.key === '/') {
    const search = document.querySelector('[data-search]');
    if (search) { event.preventDefault(); search.focus(); search.select(); }
    return;
  }
  const scale = event.target.closest('[data-scale]');
  if (!scale || !/^[0-9]$/.test(event.key)) return;
  const pick = (digits) => scale.querySelector(`input[type=radio][value="${digits}"]:not(:disabled)`);
  const joined = typed.scale === scale && event.timeStamp - typed.at < 700 ? typed.digits + event.key : event.key;
  const digits = pick(joined) ? joined : event.key;
  typed = {digits, scale, at: event.timeStamp};
  const answer = pick(digits);
  if (!answer) return;
  event.preventDefault();
  answer.focus();
  if (!answer.checked) answer.click();
});

// Drafts: a form with data-autosave is kept on the server as it is typed, and says where it stands.

const drafts = new Map();
const house = globalThis.equipoise = {drafts, renew, token}; // kept.js adds what keeps a form on this device

// Who signed in again in another tab has a new token: this page takes it over, when it is the same person.
async function renew() {
  if (await house.same?.() === false) return false;
  const reply = await fetch(location.href, {credentials: 'same-origin'});
  if (!reply.ok || reply.redirected) return false;
  const page = new DOMParser().parseFromString(await reply.text(), 'text/html');
  const who = (each) => each.querySelector('.menu-who strong')?.textContent;
  const fresh = page.querySelector('meta[name="csrf-token"]')?.content;
  if (!fresh || who(page) !== who(document)) return false;
  document.querySelector('meta[name="csrf-token"]').content = fresh;
  document.querySelectorAll('input[name="csrf_token"]').forEach((input) => { input.value = fresh; });
  return true;
}

class Draft {
  constructor(form) {
    this.form = form;
    this.state = document.querySelector(form.dataset.saveState || '[data-save-state]');
    this.saved = 'unsaved' in form.dataset ? '' : this.body(); // what a refused save brought back is kept nowhere yet
    this.wait = 0;
    this.busy = false;
    form.addEventListener('input', () => this.later(1200));
    form.addEventListener('change', () => this.later(200));
    this.later(1200);
  }

  body() { return new URLSearchParams([...new FormData(this.form)].filter(([, value]) => typeof value === 'string')).toString(); }

  get dirty() { return !this.form.dataset.sent && this.body() !== this.saved; }

  say(kind, values = {}) {
    if (!this.state) return;
    const words = this.state.dataset[kind] ?? '';
    this.state.dataset.is = kind;
    this.state.querySelector('[data-words]').textContent = words.replace(/\{(\w+)\}/g, (_, key) => values[key] ?? '');
  }

  later(milliseconds) {
    if (!this.dirty) return;
    this.say('changed');
    clearTimeout(this.wait);
    this.wait = setTimeout(() => this.save(), milliseconds);
  }

  send(body, keepalive = false) {
    return fetch(this.form.dataset.autosave, {
      method: 'PUT',
      body,
      keepalive,
      credentials: 'same-origin',
      headers: {'Content-Type': 'application/x-www-form-urlencoded', 'X-CSRF-Token': token()},
    });
  }

  async save() {
    if (this.busy || (!this.dirty && !this.pressed)) return;
    clearTimeout(this.wait);
    this.busy = true;
    this.say('saving');
    let body = this.body();
    let again = 0;
    try {
      let reply = await this.send(body);
      if (out(reply) && await renew()) reply = await this.send(body = this.body());
      if (reply.ok && !reply.redirected) {
        const version = reply.headers.get('X-Draft-Version');
        const field = this.form.elements.namedItem('version');
        const kept = new URLSearchParams(body);
        if (version && field) { field.value = version; kept.set('version', version); }
        this.saved = kept.toString();
        this.say('saved', {time: reply.headers.get('X-Draft-Time')}); // by the clock of the site
        if (this.dirty) again = 400;
        this.had?.();
      } else if (reply.status === 409 || reply.status === 412) {
        this.say('conflict');
      } else if (out(reply)) {
        this.say('out');
        await this.lost?.('out');
        again = 15000;
      } else {
        this.say('refused');
        if (reply.status >= 500) again = 10000;
      }
      if (!out(reply) && await this.go?.()) return;
    } catch {
      this.say('offline');
      await this.lost?.('offline');
      again = 10000;
    }
    this.busy = false;
    if (again) this.wait = setTimeout(() => this.save(), again);
  }
}

const out = (reply) => reply.redirected || reply.status === 401 || reply.status === 403;
house.out = out;
house.Draft = Draft;

const dirty = () => [...drafts.values()].some((draft) => draft.form.isConnected && (draft.loose ?? draft.dirty))
  || [...document.querySelectorAll('form[data-warn]')].some((form) => form.dataset.touched && !form.dataset.sent);

on('online', () => drafts.forEach((draft) => draft.save()), window);
on('pagehide', () => drafts.forEach((draft) => {
  if (draft.form.isConnected && draft.dirty && !draft.busy) draft.send(draft.body(), true).catch(() => {});
}), window);
on('beforeunload', (event) => { if (dirty()) event.preventDefault(); }, window);
on('input', (event) => {
  const form = event.target.closest('form[data-warn]');
  if (form) form.dataset.touched = '1';
});

// Questions: when one is left the server looks at all of them, and says what is hidden, what does not hold, and the scores.

const tell = (box, words) => {
  if (!box) return;
  const said = box.querySelector('[data-words]');
  if (said.textContent !== words) said.textContent = words;
  box.hidden = !words;
};

async function look(form) {
  const turn = (looks.get(form) ?? 0) + 1;
  looks.set(form, turn);
  try {
    const body = new URLSearchParams([...new FormData(form)].filter(([, value]) => typeof value === 'string'));
    const reply = await fetch(form.dataset.look, {method: 'POST', body, credentials: 'same-origin', headers: {'X-CSRF-Token': token()}});
    if (!reply.ok || reply.redirected || looks.get(form) !== turn) return;
    const seen = await reply.json();
    form.querySelectorAll('[data-item]').forEach((item) => {
      const code = item.dataset.item;
      item.toggleAttribute('data-hidden', seen.hidden.includes(code));
      // What a save said of a blank question stays until it is answered.
      if (!seen.blank.includes(code)) {
        tell(item.querySelector('[data-error]'), seen.errors[code] ?? '');
        item.classList.toggle('has-error', code in seen.errors);
        item.querySelector('[aria-describedby]')?.setAttribute('aria-invalid', code in seen.errors);
      }
      tell(item.querySelector('[data-finding]'), seen.findings[code] ?? '');
      const score = item.querySelector('[data-score]');
      if (score) score.textContent = seen.computed[code] ?? '–';
    });
    needed(form.querySelector('[data-corrects]'), seen.corrects);
    seen.progress.forEach(([done, total, words], place) => form.querySelectorAll(`[data-progress="${place}"] .progress`).forEach((bar) => {
      bar.querySelector('.bar').setAttribute('width', `${total ? 100 * done / total : 0}%`);
      bar.lastChild.textContent = words;
      bar.classList.toggle('progress-full', done >= total);
    }));
  } catch { /* saving judges again */ }
}
const looks = new WeakMap();

// What is optional is not called so while it is needed: a reason for a day outside its window, or for a changed answer.
const needed = (field, now) => {
  if (!field) return;
  field.querySelectorAll('.optional').forEach((word) => { word.hidden = now; });
  field.querySelector('.input')?.setAttribute('aria-required', now);
};
on('input', (event) => document.querySelectorAll('[data-outside]').forEach((reason) => {
  const {outside, opens, closes} = reason.dataset;
  if (event.target.id === outside) needed(reason.closest('.field'), !!event.target.value && (event.target.value < opens || event.target.value > closes));
}));

on('change', (event) => {
  const form = event.target.closest('form[data-look]');
  const item = form && event.target.closest('[data-item]');
  if (!item) return;
  const missing = item.querySelector('[data-missing]');
  // An answer takes the place of the reason why there is none; picking a reason takes out what was picked, never what was written.
  if (event.target === missing) {
    if (missing.value) item.querySelectorAll(':checked:not(option)').forEach((box) => { box.checked = false; });
  } else if (missing && event.target.name === missing.name.replace(/__missing$/, '') && event.target.value) missing.value = '';
  look(form);
});
on('keydown', (event) => {
  const item = event.target.closest('form[data-look] [data-item]');
  if (!item || !event.target.matches('input') || event.isComposing || event.ctrlKey || event.metaKey) return;
  if (event.key === 'Enter') {
    event.preventDefault();
    const items = [...item.closest('form').querySelectorAll('[data-item]:not([data-hidden], .item-score), [type=submit]')];
    const next = items[items.indexOf(item) + 1];
    (next?.querySelector('input:checked') ?? next?.querySelector('input, textarea, select') ?? next)?.focus();
  } else if ((event.key === 'Backspace' || event.key === 'Delete') && event.target.matches('[type=radio]:checked')) {
    event.target.checked = false;
    event.target.dispatchEvent(new Event('change', {bubbles: true}));
  }
});

// One click is one act: a form that has been sent is not sent again, until it comes back.

const release = (form) => {
  delete form.dataset.sent;
  form.querySelectorAll('[data-held]').forEach((button) => { button.disabled = false; delete button.dataset.held; });
};

on('submit', (event) => {
  const form = event.target;
  if (form.method === 'dialog' || form.matches('[data-again]')) return;
  if (form.dataset.sent) { event.preventDefault(); event.stopImmediatePropagation(); return; }
  form.dataset.sent = '1';
  const draft = drafts.get(form);
  if (draft) clearTimeout(draft.wait);
  setTimeout(() => {
    form.querySelectorAll('button:not([type=button]):not(:disabled)').forEach((button) => {
      button.disabled = true;
      button.dataset.held = '1';
    });
  });
  setTimeout(() => release(form), 15000);
}, document, true);
// What is shown once is gone when its page is left: a browser that keeps pages for Back keeps it without.
on('pagehide', () => document.querySelectorAll('[data-once]').forEach((part) => part.remove()), window);
on('pageshow', () => document.querySelectorAll('form[data-sent]').forEach(release), window);

// A choice that is an act in itself (site, theme, sort) goes at once; its button is there for those without scripts.

on('change', (event) => { if (event.target.matches('[data-goes]')) event.target.form.requestSubmit(); });

// Dialogs: a link with data-opens leads to its own page, or opens the dialog of that id where the page carries it.

on('click', (event) => {
  const opener = event.target.closest('[data-opens]');
  const dialog = opener && document.getElementById(opener.dataset.opens);
  if (dialog?.showModal) { event.preventDefault(); dialog.showModal(); }
  const open = event.target.closest('dialog[open]');
  if (open && (event.target === open || event.target.closest('[data-closes]'))) { event.preventDefault(); open.close(); }
  if (event.target.closest('[data-prints]')) window.print();
  document.querySelectorAll('details[data-menu][open]').forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; });
});
on('keydown', (event) => {
  if (event.key !== 'Escape') return;
  const menu = event.target.closest('details[data-menu][open]');
  if (menu) { menu.open = false; menu.querySelector('summary').focus(); }
});

// htmx: our token goes with every change, and what it brings in is made ready.

on('htmx:config:request', (event) => {
  const {request} = event.detail.ctx;
  if (request.method !== 'GET') request.headers['X-CSRF-Token'] = token();
});
on('htmx:finally:request', (event) => {
  const form = event.target.closest?.('form[data-sent]');
  if (form) release(form);
});
on('htmx:after:swap', () => prepare());

function prepare() {
  document.querySelectorAll('form[data-autosave]').forEach((form) => { if (!drafts.has(form)) drafts.set(form, new Draft(form)); });
  drafts.forEach((draft, form) => { if (!form.isConnected) { clearTimeout(draft.wait); drafts.delete(form); } });
}

document.documentElement.classList.add('js');
prepare();
const {kept} = document.body.dataset;
if (kept) setTimeout(() => { if (drafts.size || localStorage.getItem('equipoise-kept')) import(kept).catch(() => {}); }, 100);
document.querySelector('[data-error-summary]')?.focus();
