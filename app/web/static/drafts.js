// The pages of fields of a study draft. Every page works without this file: saving does the same.

const stands = (part) => [...part.querySelectorAll('input:not([type=hidden]), select, textarea')]
  .some((field) => (field.type === 'checkbox' ? field.checked : field.value !== part.dataset.otherwise));

// Fields that there are only while another says something are there as soon as it does. What stands in one is never hidden.
document.addEventListener('change', ({target}) => {
  document.querySelectorAll('[data-by]').forEach((part) => {
    if (part.dataset.by !== target.name) return;
    const other = !part.dataset.only.split(' ').includes(target.value);
    const full = stands(part);
    part.hidden = part.disabled = other && !full;
    part.querySelector('[data-left]').hidden = !other || !full;
  });
});

// Saving comes back to the row that somebody is at, and so does Enter in one of its fields.
document.addEventListener('focusin', ({target}) => {
  const row = target.closest('details[data-row]');
  const at = row && target.form?.elements.namedItem('at');
  if (at) at.value = row.dataset.row;
});

// What a new row is called is there to be written over, once the browser has brought it into view.
const fresh = document.querySelector('[data-new]');
if (fresh && document.activeElement === fresh) fresh.select();
else fresh?.addEventListener('focus', () => fresh.select(), {once: true});
