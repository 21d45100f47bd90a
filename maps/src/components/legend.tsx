/** The legend: what the colours and shapes mean, how many there are in view; each row filters by its key. */

import { useState } from 'preact/hooks';
import { MarkIcon } from '../design/icons';
import { NONE } from '../design/palette';
import { count, date, words } from '../format';
import { scoreTitle, shadeWords } from '../segments/shades';
import { sample } from '../segments/state';
import { chosen, type LegendRow, legend, painted, scored, toggleRow } from '../state/legend';
import { loading } from '../state/screen';
import './legend.css';

const SHORT = 10;
/** Rows of the small legend on the map. */
const FEW = 6;
const MOST_GROUPS = 12;

/** What the shades of a score are of, and what a ring says. */
function AboutShades() {
  if (!scored.value) return null;
  const { segmentation, shades } = scored.value;
  const part = legend.value.some((row) => row.share !== null) && !loading.value;
  return (
    <p class="small quiet">
      {shadeWords(shades)} By “{segmentation.name}”
      {segmentation.cutoff && `, from what was known on ${date(segmentation.cutoff)}`}. A ring has the shade in the
      middle of its customers; those without this score have no say.
      {part && ' Here shares are told from a part of the customers; come nearer for every one.'}
    </p>
  );
}

/** How many are in view, as far as that is known. */
function Count({ row }: { row: LegendRow }) {
  if (loading.value) return <>…</>;
  if (row.count === null) return null;
  if (row.share !== null) return <>about {row.share > 0 && row.share < 0.01 ? '1' : Math.round(row.share * 100)} %</>;
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
  const rows = legend.value;
  const rough = loading.value ? null : rows.find((row) => row.count && !row.exact && row.share === null);
  const shown = all ? rows : rows.filter((row, index) => index < SHORT || chosen.value.includes(row.key));
  return (
    <div class="legend">
      <ul>
        {shown.map((row) => (
          <li key={row.key}>
            <button
              type="button"
              class="legend-row"
              aria-pressed={chosen.value.includes(row.key)}
              disabled={row.key === NONE}
              onClick={() => toggleRow(row.key)}
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
      <AboutShades />
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
  const ordered = painted.value === 'stage' || painted.value === 'score';
  const seen = legend.value.filter((row) => (row.count ?? 0) > 0 || ordered);
  if (seen.length === 0) return null;
  // Room for a few: those that the view shows most of.
  const least = seen.map((row) => row.count ?? 0).sort((a, b) => b - a)[FEW - 1] ?? 0;
  const rows = ordered ? seen : seen.filter((row) => (row.count ?? 0) >= least).slice(0, FEW);
  return (
    <aside class="small-legend" aria-label="Legend">
      <strong>{scored.value ? scoreTitle(scored.value) : words(painted.value)}</strong>
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
