// A passkey for a form that asks for one: the device makes it or uses it, and its answer is sent with the form.
// Only forms that ask for one bring this file; `_components/passkey.html` says in which words it speaks.

async function options(place) {
  if (place.dataset.options) return JSON.parse(place.dataset.options);
  const csrf_token = place.closest('form').elements.csrf_token.value;
  const body = new URLSearchParams({csrf_token});
  const reply = await fetch('/account/passkeys/ask', {method: 'POST', credentials: 'same-origin', body});
  if (!reply.ok || reply.redirected) throw new Error('asked');
  return reply.json();
}

async function answer(place) {
  if (!window.PublicKeyCredential?.parseRequestOptionsFromJSON) throw new Error('unable');
  const asked = await options(place).catch(() => { throw new Error('asked'); });
  const made = place.dataset.passkey === 'make'
    ? await navigator.credentials.create({publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(asked)})
    : await navigator.credentials.get({publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(asked)});
  return JSON.stringify(made);
}

document.addEventListener('click', async (event) => {
  const button = event.target.closest('[data-passkey] button');
  if (!button) return;
  const place = button.closest('[data-passkey]');
  const say = (word) => { place.querySelector('[role=status]').textContent = place.dataset[word] ?? place.dataset.failed; };
  const field = place.querySelector('input[name=passkey]');
  button.disabled = true;
  say('waits');
  try {
    field.value = await answer(place);
    place.closest('form').requestSubmit();
  } catch (error) {
    say(error.message);
  }
  button.disabled = false;
});
