/** The legend: what the colours and shapes mean, how many there are in view; each row filters by its key. */

import { useState } from 'preact/hooks';
import { MarkIcon } from '../design/icons';
import { NONE } from '../design/palette';
import { count, words } from '../format';
import { sample } from '../segments/state';
import { type LegendRow, legend } from '../state/legend';
import { loading } from '../state/screen';
import { colour, filters, toggleFilter } from '../state/store';
import './legend.css';

const SHORT = 10;
/** Rows of the small legend on the map. */
const FEW = 6;
const MOST_GROUPS = 12;

/** How many are in view, as far as that is known. */
function Count({ row }: { row: LegendRow }) {
  if (loading.value) return <>…</>;
  if (row.count === null) return null;
  if (row.exact) return <>{count(row.count)}</>;
  return (
    <>
      <span class="hidden-visually">at least </span>
      {count(row.count)}
      <span aria-hidden="true">+</span>
    </>
  );
}

export function Legend() {
  const [all, setAll] = useState(false);
  const key = colour.value;
  const chosen = filters.value[key];
  const rows = legend.value;
  const rough = loading.value ? null : rows.find((row) => row.count && !row.exact);
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
                <Count row={row} />
              </span>
            </button>
          </li>
        ))}
      </ul>
      {rough?.count && (
        <p class="small quiet">
          {count(rough.count)}+ means at least {count(rough.count)}: a cluster tells its four largest groups only. Zoom
          in for exact counts.
        </p>
      )}
      {rows.length > SHORT && (
        <button type="button" class="button plain" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? 'Show fewer' : `Show all ${rows.length}`}
        </button>
      )}
      <p class="small quiet">Press a row to see only those customers.</p>
    </div>
  );
}

/** The legend in a corner of the map while another panel is open: to read, not to press. */
export function SmallLegend() {
  if (sample.value) {
    return (
      <aside class="small-legend" aria-label="Legend of the preview">
        <strong>Preview, a sample</strong>
        <ul>
          {sample.value.groups.slice(0, MOST_GROUPS).map(({ name, mark }) => (
            <li key={name}>
              <MarkIcon mark={mark} />
              {name}
            </li>
          ))}
        </ul>
      </aside>
    );
  }
  const seen = legend.value.filter((row) => (row.count ?? 0) > 0 || colour.value === 'stage');
  if (seen.length === 0) return null;
  // Room for a few: those that the view shows most of.
  const least = seen.map((row) => row.count ?? 0).sort((a, b) => b - a)[FEW - 1] ?? 0;
  const rows = colour.value === 'stage' ? seen : seen.filter((row) => (row.count ?? 0) >= least).slice(0, FEW);
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
      {seen.length > rows.length && <p class="quiet">and {seen.length - rows.length} more</p>}
    </aside>
  );
}
