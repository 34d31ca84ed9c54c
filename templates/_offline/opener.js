"use strict";
/* Opens one slip of a downtime pack without any server. app/foundation/crypto/packs.py says what is sealed and how:
   scrypt (RFC 7914) over the passphrase, HMAC-SHA256 of the slip's code under it, AES-256-GCM of the arm. */
(() => {
  const pack = JSON.parse(document.getElementById("pack").textContent);
  const words = pack.words, at = (id) => document.getElementById(id), bytes = new TextEncoder();
  const memory = "equipoise-downtime-" + pack.passphrase.salt;
  let opened = [], known = null;
  try { opened = JSON.parse(localStorage.getItem(memory)) || []; } catch { opened = []; }

  const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
  const asRead = (typed) => [...typed.toUpperCase().replace(/O/g, "0").replace(/[IL]/g, "1")]
    .filter((each) => alphabet.includes(each)).join("");
  const fromHex = (text) => Uint8Array.from(text.match(/../g), (each) => parseInt(each, 16));
  const fromBase64 = (text) => Uint8Array.from(atob(text), (each) => each.charCodeAt(0));

  const pbkdf2 = async (password, salt, length) => {
    const key = await crypto.subtle.importKey("raw", password, "PBKDF2", false, ["deriveBits"]);
    const told = { name: "PBKDF2", hash: "SHA-256", salt, iterations: 1 };
    return new Uint8Array(await crypto.subtle.deriveBits(told, key, 8 * length));
  };

  function salsa(b) {
    const x = b.slice();
    const turn = (to, from, other, by) => {
      const sum = (x[from] + x[other]) | 0;
      x[to] ^= (sum << by) | (sum >>> (32 - by));
    };
    for (let round = 0; round < 4; round++) {
      for (const [a, b1, c, d] of [[0, 4, 8, 12], [5, 9, 13, 1], [10, 14, 2, 6], [15, 3, 7, 11],
        [0, 1, 2, 3], [5, 6, 7, 4], [10, 11, 8, 9], [15, 12, 13, 14]]) {
        turn(b1, a, d, 7); turn(c, b1, a, 9); turn(d, c, b1, 13); turn(a, d, c, 18);
      }
    }
    for (let i = 0; i < 16; i++) b[i] = (b[i] + x[i]) | 0;
  }

  function mix(block, r) {
    const last = block.slice(16 * (2 * r - 1), 32 * r), even = [], odd = [];
    for (let i = 0; i < 2 * r; i++) {
      for (let j = 0; j < 16; j++) last[j] ^= block[16 * i + j];
      salsa(last);
      (i % 2 ? odd : even).push(last.slice());
    }
    [...even, ...odd].forEach((part, i) => block.set(part, 16 * i));
  }

  function romix(block, n, r) {
    const size = 32 * r, kept = new Int32Array(n * size);
    for (let i = 0; i < n; i++) { kept.set(block, i * size); mix(block, r); }
    for (let i = 0; i < n; i++) {
      const from = (block[16 * (2 * r - 1)] & (n - 1)) * size;
      for (let j = 0; j < size; j++) block[j] ^= kept[from + j];
      mix(block, r);
    }
  }

  async function scrypt(password, { salt, n, r, p }) {
    const filled = await pbkdf2(password, fromHex(salt), p * 128 * r), view = new DataView(filled.buffer);
    for (let part = 0; part < p; part++) {
      const start = part * 128 * r, block = new Int32Array(32 * r);
      for (let i = 0; i < block.length; i++) block[i] = view.getInt32(start + 4 * i, true);
      romix(block, n, r);
      for (let i = 0; i < block.length; i++) view.setInt32(start + 4 * i, block[i], true);
    }
    return pbkdf2(password, filled, 32);
  }

  async function armOf(stratum, slot, passphrase, code) {
    if (known === null || known.passphrase !== passphrase) {
      known = { passphrase, key: await scrypt(bytes.encode(passphrase), pack.passphrase) };
    }
    const hmac = await crypto.subtle.importKey("raw", known.key, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
    const raw = await crypto.subtle.sign("HMAC", hmac, bytes.encode("equipoise.downtime.1|" + code));
    const key = await crypto.subtle.importKey("raw", raw, "AES-GCM", false, ["decrypt"]);
    const sealed = fromBase64(slot.sealed);
    const place = bytes.encode(JSON.stringify([pack.format, pack.study, pack.pack, stratum.code, slot.number]));
    const told = { name: "AES-GCM", iv: sealed.slice(0, 12), additionalData: place };
    const plain = new Uint8Array(await crypto.subtle.decrypt(told, key, sealed.slice(12)));
    const length = new DataView(plain.buffer).getUint32(0);
    return new TextDecoder().decode(plain.slice(4, 4 + length));
  }

  const nameOf = (number) => pack.pack + "-" + String(number).padStart(2, "0");
  const chosen = () => pack.strata[at("stratum").selectedIndex];
  const nextOf = (stratum) => stratum.slots.find((slot) => !opened.includes(slot.number));

  function offer() {
    const next = nextOf(chosen());
    at("number").value = next ? String(next.number).padStart(2, "0") : "";
    at("next").textContent = next ? words.next.replace("{slip}", nameOf(next.number)) : words.none;
    at("other").hidden = true;
    at("anyway").checked = false;
  }

  function say(problem) {
    at("problem").textContent = problem;
    at("problem").hidden = problem === "";
  }

  for (const stratum of pack.strata) at("stratum").add(new Option(stratum.words, stratum.code));
  at("prefix").textContent = pack.pack + "-";
  at("stratum").addEventListener("change", () => { at("shown").hidden = true; say(""); offer(); });
  at("hide").addEventListener("click", () => { at("shown").hidden = true; at("arm").textContent = ""; offer(); });
  offer();

  at("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    at("shown").hidden = true;
    const stratum = chosen(), next = nextOf(stratum);
    const number = Number(at("number").value.replace(/^.*-/, ""));
    const slot = stratum.slots.find((each) => each.number === number);
    const passphrase = asRead(at("passphrase").value), code = asRead(at("code").value);
    if (!slot) return say(words.unknown);
    if ((!next || number !== next.number) && !at("anyway").checked) {
      at("other").hidden = false;
      return say(words.order);
    }
    if (!code || !passphrase) return say(words.both);
    if (!globalThis.crypto || !crypto.subtle) return say(words.browser);
    say("");
    at("open").disabled = true;
    at("open").textContent = words.opening;
    await new Promise((done) => setTimeout(done, 30));
    try {
      const arm = await armOf(stratum, slot, passphrase, code);
      if (!opened.includes(number)) opened.push(number);
      try { localStorage.setItem(memory, JSON.stringify(opened)); } catch { /* it is remembered as long as it is open */ }
      at("slip").textContent = words.slip.replace("{slip}", nameOf(number));
      at("of").textContent = stratum.words;
      at("arm").textContent = pack.arms[arm] || arm;
      at("shown").hidden = false;
      at("code").value = "";
      at("other").hidden = true;
    } catch {
      say(words.wrong);
    }
    at("open").disabled = false;
    at("open").textContent = words.open;
  });
})();
