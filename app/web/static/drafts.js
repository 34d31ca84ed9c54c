// Fields that there are only while another says something (data-only, data-by): shown as soon as it does. Without scripts, saving does it.

const stands = (part) => [...part.querySelectorAll('input:not([type=hidden]), select, textarea')]
  .some((field) => (field.type === 'checkbox' ? field.checked : field.value !== (part.dataset.otherwise ?? '')));

document.addEventListener('change', (event) => {
  const {name, value} = event.target;
  if (!name) return;
  document.querySelectorAll('[data-by]').forEach((part) => {
    if (part.dataset.by !== name) return;
    const other = !part.dataset.only.split(' ').includes(value);
    const full = stands(part);
    part.hidden = other && !full;
    part.querySelector('[data-left]').hidden = !other || !full;
  });
});
