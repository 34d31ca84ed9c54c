// What is typed while there is no connection, or no session any more: kept on this device, encrypted, until it is sent.
//
// Two keys lie around it. One is made in this browser for each sign-in, cannot be taken out of it, and goes when its person
// signs out. The other is the server's, for whoever is signed in, and stands in the memory of an open page alone: nobody
// else who signs in here can open it. Not even which form it is stands in the clear.

const NAME = 'equipoise-kept';
const text = new TextEncoder();
const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, '0')).join('');

const opened = () => new Promise((done, fail) => {
  const asked = indexedDB.open(NAME, 1);
  asked.onupgradeneeded = () => {
    asked.result.createObjectStore('keys');
    asked.result.createObjectStore('forms', {keyPath: 'id'});
  };
  asked.onsuccess = () => done(asked.result);
  asked.onerror = () => fail(asked.error);
});

let gone = false; // once its person signs out here, nothing more is kept by this page
let left = false; // nor in another page
const pages = new BroadcastChannel(NAME);
pages.onmessage = ({data}) => { left = data; };
const leave = (leaves) => { gone = leaves; pages.postMessage(leaves); };

async function stored(name, mode, act) {
  if (gone || left) throw new Error('Signed out');
  const database = await opened();
  try {
    return await new Promise((done, fail) => {
      const all = database.transaction(name, mode);
      const asked = act(all.objectStore(name));
      all.oncomplete = () => done(asked.result);
      all.onerror = () => fail(all.error);
      all.onabort = () => fail(all.error);
    });
  } finally {
    database.close();
  }
}

// Who this page belongs to, as the server says once; it is asked again only after another sign-in.

let me = null;

async function asked() {
  const reply = await fetch('/kept/key', {credentials: 'same-origin'});
  if (!reply.ok || reply.redirected) return null;
  const {person, session, share} = await reply.json();
  const bytes = Uint8Array.from(share.match(/../g), (pair) => parseInt(pair, 16));
  return {person, session, bytes, key: await crypto.subtle.importKey('raw', bytes, 'AES-GCM', false, ['encrypt', 'decrypt'])};
}

async function ready() {
  me ??= await asked().catch(() => null);
  return me !== null;
}

// Whether whoever is signed in now is who opened this page; null when nobody is.
async function same() {
  const now = await asked().catch(() => null);
  if (!now || !me) return null; // whose this page is must have been known before
  if (me.person !== now.person) return false;
  me = now;
  left = false;
  return true;
}

async function device(id, make) {
  const kept = await stored('keys', 'readonly', (keys) => keys.get(id));
  if (kept || !make) return kept;
  const made = await crypto.subtle.generateKey({name: 'AES-GCM', length: 256}, false, ['encrypt', 'decrypt']);
  await stored('keys', 'readwrite', (keys) => keys.put(made, id));
  return made;
}

const nameOf = async (url) => hex(await crypto.subtle.digest('SHA-256', new Uint8Array([...me.bytes, ...text.encode(url)])));
const how = (iv, id) => ({name: 'AES-GCM', iv, additionalData: text.encode(id)});

async function put(said) {
  const id = await nameOf(said.url);
  const signIn = `${me.person}.${me.session}`;
  const outer = await device(signIn, true);
  const [iv, iv2] = [crypto.getRandomValues(new Uint8Array(12)), crypto.getRandomValues(new Uint8Array(12))];
  const inside = await crypto.subtle.encrypt(how(iv, id), me.key, text.encode(JSON.stringify(said)));
  const data = await crypto.subtle.encrypt(how(iv2, id), outer, inside);
  await stored('forms', 'readwrite', (forms) => forms.put({id, signIn, iv, iv2, data}));
  localStorage.setItem(NAME, '1');
}

async function read(record) {
  const outer = await device(record.signIn, false);
  if (!outer) return null;
  try {
    const inside = await crypto.subtle.decrypt(how(record.iv2, record.id), outer, record.data);
    return JSON.parse(new TextDecoder().decode(await crypto.subtle.decrypt(how(record.iv, record.id), me.key, inside)));
  } catch {
    return null;
  }
}

async function remove(url) {
  const id = await nameOf(url);
  await stored('forms', 'readwrite', (forms) => forms.delete(id));
  const left = await stored('forms', 'readonly', (forms) => forms.getAllKeys());
  if (left.length) return;
  await stored('keys', 'readwrite', (keys) => keys.clear());
  localStorage.removeItem(NAME);
}

async function mine() {
  if (!me || !localStorage.getItem(NAME)) return [];
  const records = await stored('forms', 'readonly', (forms) => forms.getAll());
  const said = await Promise.all(records.filter((each) => each.signIn.startsWith(`${me.person}.`)).map(read));
  return said.filter(Boolean).sort((one, other) => one.typedAt.localeCompare(other.typedAt));
}

// Keep what a form holds. `button`: what was pressed to save it, null while nobody has.

async function keep(form, body, typedAt, button = null) {
  if (!me) return false;
  try {
    const fields = new URLSearchParams(body);
    fields.delete('csrf_token');
    fields.set('draft-version', form.dataset.draft ?? '');
    await put({
      url: form.getAttribute('action'),
      draft: form.dataset.autosave,
      label: document.querySelector('h1')?.textContent.trim() ?? '',
      body: fields.toString(),
      typedAt,
      button,
      state: button ? 'waits' : 'draft',
    });
    return true;
  } catch {
    return false; // no room, or a browser that keeps nothing: the page says that it must stay open
  }
}

async function sent(form) {
  if (me && localStorage.getItem(NAME)) await remove(form.getAttribute('action'));
}

// Send what waits, one after another. What the server does not save as it is becomes a draft there, upon the version it was
// typed on: the form then shows both versions.

const {token} = globalThis.equipoise;
const speak = (method, url, fields, headers = {}) => fetch(url, {method, body: fields, credentials: 'same-origin', redirect: 'manual', headers});

async function one(said) {
  const fields = new URLSearchParams(said.body);
  if (said.state === 'waits') {
    const saving = new URLSearchParams(fields);
    saving.set('csrf_token', token());
    saving.set('typed-at', said.typedAt);
    if (said.button?.[0] === 'save-as' && said.button[1] === 'partial') saving.set('save-as', 'partial');
    const reply = await speak('POST', said.url, saving);
    if (reply.type === 'opaqueredirect') return remove(said.url);
    if (reply.status === 401 || reply.status >= 500) return null;
    if (reply.status !== 409 && reply.status !== 422) return put({...said, state: 'stuck'});
  }
  fields.set('typed-at', said.typedAt); // held back: kept there, whatever its person saved since
  const reply = await speak('PUT', said.draft, fields, {'X-CSRF-Token': token()});
  if (reply.status === 401 || reply.status >= 500) return null;
  if (reply.ok && said.state === 'draft') return remove(said.url);
  if (reply.headers.has('X-Draft-At') && !reply.ok) return put({...said, state: 'elsewhere'}); // the form shows both
  return put({...said, state: reply.ok || reply.headers.has('X-Draft-Kept') ? 'refused' : 'stuck'});
}

async function send(but = '') {
  if (!await ready()) return;
  const all = async () => {
    for (const said of await mine()) {
      if (said.url === but || !['waits', 'draft'].includes(said.state)) continue;
      try { await one(said); } catch { break; }
    }
  };
  await (navigator.locks ? navigator.locks.request(NAME, all) : all());
  await note();
}

// The line that says that something waits, and the list of it.

async function note() {
  const waiting = await mine();
  document.querySelectorAll('[data-kept-note]').forEach((line) => { line.hidden = !waiting.length; });
  const list = document.querySelector('[data-kept-list]');
  if (!list) return;
  const words = list.dataset;
  list.querySelector('[data-kept-none]').hidden = waiting.length > 0;
  list.querySelector('[data-kept-send]').hidden = !waiting.some((said) => ['waits', 'draft'].includes(said.state));
  list.querySelector('ul').replaceChildren(...waiting.map((said) => {
    const line = document.createElement('li');
    const part = (name, content, more = {}) => Object.assign(document.createElement(name), {textContent: content, ...more});
    const at = new Date(said.typedAt).toLocaleString(document.documentElement.lang, {dateStyle: 'medium', timeStyle: 'short'});
    const drop = part('button', words.drop, {type: 'button', className: 'button button-quiet'});
    drop.addEventListener('click', async () => { if (window.confirm(words.sure)) { await remove(said.url); await note(); } });
    line.append(
      part('strong', said.label), part('span', `${words.typed} ${at}`, {className: 'quiet'}), part('span', words[said.state]),
      part('a', words.open, {href: said.url}), drop,
    );
    return line;
  }));
}

// Sign in again in place: the form of the sign-in page, in a dialog over this page, which stays as it is.

function signIn(title) {
  return new Promise((done) => {
    const dialog = document.createElement('dialog');
    const finish = (answer) => { done(answer); dialog.close(); dialog.remove(); };
    const show = (html) => {
      const page = new DOMParser().parseFromString(html, 'text/html');
      const form = page.querySelector('form[action="/sign-in"]');
      if (!form) return finish(false);
      const head = document.createElement('h2');
      head.textContent = title;
      dialog.replaceChildren(head, document.adoptNode(form));
      form.querySelectorAll('[autofocus]').forEach((input) => input.focus());
      form.addEventListener('submit', async (event) => {
        event.preventDefault();
        event.stopPropagation();
        const reply = await speak('POST', '/sign-in', new URLSearchParams(new FormData(form))).catch(() => null);
        if (!reply) return finish(false);
        if (reply.type !== 'opaqueredirect') return show(await reply.text());
        const is = await same();
        return finish(is === false ? 'another' : is === true);
      });
      return null;
    };
    dialog.addEventListener('close', () => finish(false));
    document.body.append(dialog);
    fetch('/sign-in', {credentials: 'same-origin'}).then((reply) => reply.text()).then((html) => { show(html); dialog.showModal(); }).catch(() => finish(false));
  });
}

// All of this browser's keys go; what waits is sent first, or its person says that it may go.

async function forget(sure) {
  await send();
  if ((await stored('forms', 'readonly', (forms) => forms.count())) && !window.confirm(sure)) return false;
  leave(true); // a form still open, here or elsewhere, may be about to keep what was typed last
  await new Promise((done) => {
    const asked = indexedDB.deleteDatabase(NAME);
    asked.onsuccess = asked.onerror = done;
    asked.onblocked = () => setTimeout(done, 2000); // another page of this browser reads: it ends by itself
  });
  localStorage.removeItem(NAME);
  return true;
}

document.addEventListener('click', async (event) => {
  if (event.target.closest('[data-kept-send]')) await send();
});

// A form that is open: what becomes of it while the server does not answer, or does not know us any more.

const {drafts, Draft, out, renew} = globalThis.equipoise;
const SHORT = 60000; // milliseconds since the server last answered, within which it is not asked once more before a save

// The same form in another window, or on another device: neither writes over what the other one kept. The server answers with
// both, which stand above the form until one is taken.

async function both(form, reply, mine, theirs) {
  const page = new DOMParser().parseFromString(await reply.text(), 'text/html');
  const box = document.adoptNode(page.querySelector('#elsewhere'));
  document.querySelector('#elsewhere')?.remove();
  form.before(box);
  box.querySelector('[data-mine]').addEventListener('click', mine);
  box.querySelector('[data-theirs]').addEventListener('click', theirs);
  return box;
}

const plain = Draft.prototype.send;
const isElsewhere = (reply) => reply.status === 409 && reply.headers.has('X-Draft-At');

const onward = {
  async send(body, keepalive = false) {
    const fields = new URLSearchParams(body);
    fields.set('draft-version', this.form.dataset.draft ?? '');
    const reply = await plain.call(this, fields.toString(), keepalive);
    if (reply.ok && reply.headers.has('X-Draft-At')) this.form.dataset.draft = reply.headers.get('X-Draft-At');
    else if (isElsewhere(reply) && !keepalive) await this.elsewhere(reply);
    return reply;
  },

  async elsewhere(reply) {
    const at = reply.headers.get('X-Draft-At');
    const box = await both(this.form, reply, () => {
      this.form.dataset.draft = at;
      box.remove();
      this.save();
    }, () => {
      this.form.dataset.sent = '1';
      location.assign(place);
    });
    if (this.state) this.state.dataset.conflict = box.dataset.conflict;
  },

  // Keep it, with the time at which it was typed: trying again later is no typing.
  async hold() {
    const body = this.body();
    if (this.held?.body !== body) this.held = {body, at: new Date().toISOString()};
    this.safe = await keep(this.form, body, this.held.at, this.pressed && [this.pressed.name, this.pressed.value]);
    return this.safe;
  },

  async lost(kind) {
    const safe = await this.hold();
    const files = [...this.form.querySelectorAll('[type=file]')].some((input) => input.files.length);
    if (kind === 'offline' && safe) this.say(files ? 'files' : this.pressed ? 'waits' : 'kept');
    else this.say(kind);
    const again = this.form.querySelector('[data-sign-in]');
    if (again) again.hidden = kind !== 'out';
  },

  // The server has what was typed, as a draft.
  async had() {
    this.met = Date.now();
    const again = this.form.querySelector('[data-sign-in]');
    if (again) again.hidden = true;
    if (!this.held || this.pressed) return;
    this.held = null;
    await sent(this.form);
  },

  // Press the button that could not be pressed while there was no connection; false when there was none.
  async go() {
    const button = this.pressed;
    if (!button) return false;
    this.pressed = null;
    this.busy = false;
    this.met = Date.now();
    if (!this.form.isConnected) return true;
    know(this.form);
    if (this.held) {
      this.form.append(Object.assign(document.createElement('input'), {type: 'hidden', name: 'typed-at', value: this.held.at}));
      await sent(this.form);
      this.held = null;
    }
    this.saved = this.body();
    this.form.requestSubmit(button);
    return true;
  },

  // Before a save: does the server answer, and know us? Whatever it says, what was typed is kept.
  async press(button) {
    clearTimeout(this.wait);
    this.pressed = button;
    this.say('saving');
    let reply = null;
    try { reply = await this.send(this.body()); } catch { /* no connection */ }
    if (!reply) {
      await this.lost('offline');
      clearTimeout(this.wait);
      this.wait = setTimeout(() => this.save(), 10000);
    } else if (out(reply) && !await renew()) {
      await this.lost('out');
      if (!await this.signIn()) this.pressed = null;
    } else if (isElsewhere(reply)) {
      this.pressed = null;
      this.say('conflict');
      document.querySelector('#elsewhere').focus();
    } else await this.go();
  },

  async signIn() {
    if (this.asking) return false;
    this.asking = true;
    const is = await signIn(this.form.querySelector('[data-sign-in]').dataset.title);
    this.asking = false;
    if (is === 'another') { // nothing of this page is theirs
      this.form.dataset.sent = '1';
      location.assign('/');
    }
    if (is !== true || !await renew()) return false;
    await this.save();
    return true;
  },
};
Object.assign(Draft.prototype, onward);
Object.defineProperty(Draft.prototype, 'loose', {get() { return this.dirty && !(this.safe && this.held?.body === this.body()); }});
globalThis.equipoise.same = same;

document.addEventListener('click', (event) => {
  const again = event.target.closest('[data-sign-in]');
  if (again) [...drafts.values()].find((draft) => draft.form.contains(again))?.signIn();
});

// A save says which draft its page knows of.
const know = (form) => {
  form.querySelector('[name=draft-version]')?.remove();
  form.append(Object.assign(document.createElement('input'), {type: 'hidden', name: 'draft-version', value: form.dataset.draft ?? ''}));
};

// On the window: before whatever else listens.
window.addEventListener('submit', (event) => {
  const draft = drafts.get(event.target);
  if (!draft || event.target.dataset.sent) return;
  draft.met ??= performance.timeOrigin;
  // Nothing typed that the server does not have, and it answered a moment ago: this goes as any form does.
  if (navigator.onLine && !draft.dirty && !draft.held && Date.now() - draft.met < SHORT && draft.state?.dataset.is !== 'out') {
    know(event.target);
    return;
  }
  event.preventDefault();
  event.stopImmediatePropagation();
  draft.press(event.submitter ?? event.target.querySelector('.form-bar [type=submit]'));
}, true);

// The keys go, after what waits was sent.
window.addEventListener('submit', async (event) => {
  const leaving = event.target;
  if (!leaving.matches('[action$="/sign-out"]') || leaving.dataset.forgotten) return;
  if (!localStorage.getItem(NAME)) { // what is typed and not sent yet is not to be kept in the moment it takes to leave
    leave(true);
    return;
  }
  event.preventDefault();
  event.stopImmediatePropagation();
  if (!await forget(leaving.dataset.sure)) return;
  leaving.dataset.forgotten = '1';
  leaving.requestSubmit();
}, true);

// Whoever types again, or comes back to the page, has not left: the server did not answer, or they stayed.
const stays = () => { if (gone && !document.querySelector('[data-forgotten]')) leave(false); };
window.addEventListener('input', stays, true);
window.addEventListener('pageshow', (event) => { if (event.persisted) gone = false; });

window.addEventListener('online', () => send(document.querySelector('form[data-autosave]')?.getAttribute('action')));

drafts.forEach((draft, form) => {
  const {kept, waits, files} = form.querySelector('[data-sign-in]')?.dataset ?? {};
  if (draft.state) Object.assign(draft.state.dataset, {kept, waits, files});
});

// What was typed on this device without a connection, while something else was kept from another one.
async function choose(kept) {
  const fields = new URLSearchParams(kept.body);
  const put = () => speak('PUT', kept.draft, fields, {'X-CSRF-Token': token()});
  const gone = async () => { await remove(place); location.reload(); };
  const reply = await put();
  if (reply.ok) await gone();
  else if (isElsewhere(reply)) {
    await both(form, reply, async () => {
      fields.set('draft-version', form.dataset.draft || reply.headers.get('X-Draft-At'));
      const again = await put();
      if (again.ok) await gone();
      else if (isElsewhere(again)) location.reload();
    }, gone);
  }
}

const form = document.querySelector('form[data-autosave]');
const place = form?.getAttribute('action');
if (await ready() && localStorage.getItem(NAME)) {
  const standing = async () => (await mine()).find((said) => said.url === place);
  const kept = place && await standing();
  if (kept?.state === 'stuck') await put({...kept, state: 'draft'}); // the form is open: once more
  await send();
  // This page was made before what waits was sent, or shows what came of it: it is made again, once.
  if (kept && (await standing())?.state !== kept.state) location.reload();
  else if (kept?.state === 'elsewhere') await choose(kept);
  else if (kept?.state === 'refused') await remove(place); // the page shows it; what the server does not have stays here
}
await note();
document.body.dataset.keeps = me ? 'yes' : 'no';
