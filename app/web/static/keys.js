// The keyboard in forms and tables: Tab, arrows and Ctrl+Enter. Pages work without it.

const on = (type, act, target = document) => target.addEventListener(type, act);

// The Tab key goes from question to question. The reason why there is no answer is a stop while there is none, the history
// of a question once one is in it (Shift+Tab). Ctrl+Enter saves, and goes on with the next form.

const stops = (item, within) => {
  if (!item) return;
  item.querySelectorAll('.item-history').forEach((link) => { link.tabIndex = within ? 0 : -1; });
  const missing = item.querySelector('[data-missing]');
  if (!missing) return;
  const answers = [...item.querySelectorAll('.field-row input:not([type=range],[type=hidden]), .field-row textarea, .field-row select')];
  const answered = answers.some((each) => (/^(radio|checkbox)$/.test(each.type) ? each.checked && each.value : each.value));
  missing.tabIndex = answered && !missing.value ? -1 : 0;
};
for (const [type, within] of [['focusin', true], ['focusout', false], ['change', true], ['input', true]]) {
  on(type, (event) => stops(event.target.closest?.('form[data-look] [data-item]'), within));
}
on('keydown', (event) => {
  if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
  const form = event.target.closest('form[data-look]');
  (form?.querySelector('[data-onward]') ?? form?.querySelector('.form-bar [type=submit]'))?.click();
});

// A table or a line of links is one stop: arrows go from link to link, Home and End along a row.

const links = (grid) => (grid.rows ? [...grid.rows].map((row) => [...row.cells].flatMap((cell) => (cell.querySelector('a') ? [...cell.querySelectorAll('a')] : [null]))) : [[...grid.querySelectorAll('a')]])
  .filter((row) => row.some(Boolean));
const settle = (grid, chosen) => links(grid).flat().forEach((link) => link?.setAttribute('tabindex', link === chosen ? 0 : -1));
on('keydown', (event) => {
  const grid = event.target.closest('[data-arrows]');
  const step = {ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0], Home: [0, -999], End: [0, 999]}[event.key];
  if (!grid || !step || event.ctrlKey || event.altKey || event.metaKey) return;
  const rows = links(grid);
  let y = rows.findIndex((row) => row.includes(event.target.closest('a')));
  if (y < 0) return;
  event.preventDefault();
  let x = rows[y].indexOf(event.target.closest('a'));
  let found = null;
  if (Math.abs(step[1]) > 1) found = step[1] > 0 ? rows[y].findLast(Boolean) : rows[y].find(Boolean);
  else for (y += step[0], x += step[1]; !found && rows[y] && x >= 0 && x < rows[y].length; y += step[0], x += step[1]) found = rows[y][x];
  if (!found && step[0] && rows[y]) found = rows[y].findLast(Boolean);
  if (!found) return;
  settle(grid, found);
  found.focus();
});

// A table says so while it has the focus.
const hint = document.getElementById('arrows');
on('focusin', (event) => {
  const grid = event.target.closest('[data-arrows]');
  hint.hidden = !grid || !event.target.matches(':focus-visible') || grid.querySelectorAll('a').length < 2;
  if (!hint.hidden) (grid.closest('.table-frame') ?? grid).after(hint);
});

function prepare() {
  document.querySelectorAll('form[data-look] [data-item]').forEach((item) => stops(item, false));
  document.querySelectorAll('[data-arrows]').forEach((grid) => {
    if (grid.querySelector('a[tabindex="0"]')) return;
    const first = links(grid).flat().find(Boolean);
    first?.setAttribute('aria-describedby', 'arrows');
    settle(grid, first);
  });
  // A frame is a stop only where there is something to scroll.
  document.querySelectorAll('.table-frame').forEach((frame) => { frame.tabIndex = frame.scrollWidth > frame.clientWidth ? 0 : -1; });
}
on('htmx:after:swap', prepare);
on('resize', prepare, window);
document.addEventListener('toggle', prepare, true);
prepare();
