/** The legend: what the colours and shapes mean, how many there are in view; each row filters by its key. */

import { useState } from 'preact/hooks';
import { MarkIcon } from '../design/icons';
import { NONE } from '../design/palette';
import { count, words } from '../format';
import { legendRows, marks } from '../state/legend';
import { tally } from '../state/screen';
import { colour, filters, toggleFilter } from '../state/store';
import './legend.css';

const SHORT = 8;

export function Legend() {
  const [all, setAll] = useState(false);
  const key = colour.value;
  const chosen = filters.value[key];
  const rows = legendRows(key, marks.value, tally.value);
  const shown = all ? rows : rows.filter((row, index) => index < SHORT || chosen.includes(row.key));
  return (
    <div class="legend">
      <ul>
        {shown.map((row) => (
          <li key={row.key}>
            <button
              type="button"
              class="legend-row"
              aria-pressed={chosen.includes(row.key)}
              disabled={row.key === NONE}
              onClick={() => toggleFilter(key, row.key)}
            >
              <MarkIcon mark={row.mark} />
              <span class="legend-name">{row.name}</span>
              <span class="legend-count">
                {tally.value?.exact === false && row.count > 0 ? '≥ ' : ''}
                {count(row.count)}
              </span>
            </button>
          </li>
        ))}
      </ul>
      {rows.length > SHORT && (
        <button type="button" class="button plain" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? 'Show fewer' : `Show all ${rows.length}`}
        </button>
      )}
      <p class="small quiet">
        {tally.value?.exact === false
          ? 'Clusters tell their four most frequent keys: zoom in for exact counts. Press a row to see only those.'
          : 'Press a row to see only those customers.'}
      </p>
    </div>
  );
}

/** The legend in a corner of the map while another panel is open: to read, not to press. */
export function SmallLegend() {
  const rows = legendRows(colour.value, marks.value, tally.value).filter(
    (row, index) => (row.count > 0 || colour.value === 'stage') && index < 6,
  );
  if (rows.length === 0) return null;
  return (
    <aside class="small-legend" aria-label="Legend">
      <strong>{words(colour.value)}</strong>
      <ul>
        {rows.map((row) => (
          <li key={row.key}>
            <MarkIcon mark={row.mark} />
            {row.name}
          </li>
        ))}
      </ul>
    </aside>
  );
}
