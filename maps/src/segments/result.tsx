/** What a run found: its segments with marks, names, sizes and sentences; profiles side by side; how sure it is. */

import { useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Member, RunWithResults, Segmentation } from '../api/shapes';
import { CustomerList, type ListRow } from '../components/customer_list';
import { Failed } from '../components/states';
import { MarkIcon } from '../design/icons';
import { type Mark, marksFor, OTHER } from '../design/palette';
import { count, counted } from '../format';
import { apart } from '../plots/profile';
import { ProfilePlots } from '../plots/profiles';
import { segmentMarks } from '../state/legend';
import { usePages, useSubmit } from '../state/remote';
import { filters, showWhere, toggleFilter } from '../state/store';
import { Audience } from './audience';
import { inSegment } from './conditions';
import { featureName, featureValue, isPosition } from './features';
import { type FoundSegment, type ProfileRow, readResults } from './results';
import { may } from './state';
import { Sureness } from './sureness';

interface Props {
  segmentation: Segmentation;
  run: RunWithResults;
  /** A segment has another name: what is shown is asked for again. */
  renamed: () => void;
}

/** The marks of a run's segments: those of the map where it shows them. */
function marksOf(found: readonly FoundSegment[]): ReadonlyMap<string, Mark> {
  const shown = segmentMarks.value;
  if (found.every(({ id }) => shown.has(id))) return shown;
  return marksFor(
    found.map(({ id }) => id),
    'there and back',
  );
}

export function Result({ segmentation, run, renamed }: Props) {
  const results = readResults(run);
  const marks = marksOf(results.segments);
  const found = results.segments;
  const label = (row: FoundSegment) => ({ label: row.label, name: row.name, mark: marks.get(row.id) ?? OTHER });
  return (
    <>
      <section class="block" aria-labelledby="found-title">
        <h3 id="found-title">{counted(found.length, 'segment')}</h3>
        {found.length === 0 && <p class="quiet">Nobody is in a segment.</p>}
        <ul class="found" aria-label="Segments">
          {found.map((row) => (
            <SegmentRow
              key={row.id}
              row={row}
              mark={marks.get(row.id) ?? OTHER}
              segmentation={segmentation}
              run={run}
              profile={results.profile.filter((one) => one.label === row.label)}
              renamed={renamed}
            />
          ))}
        </ul>
        {found.some(({ size }) => size === null) && (
          <p class="small quiet">
            Sizes and figures of segments with fewer than 10 customers are not told to whom does not see every customer.
          </p>
        )}
      </section>
      {results.profile.length > 0 && found.length > 1 && (
        <section class="block" aria-labelledby="profile-title">
          <h3 id="profile-title">Side by side</h3>
          <ProfilePlots
            segments={found.map(label)}
            rows={results.profile.filter(({ feature }) => !isPosition(feature))}
          />
        </section>
      )}
      <Sureness results={results} found={found} />
    </>
  );
}

interface RowProps {
  row: FoundSegment;
  mark: Mark;
  segmentation: Segmentation;
  run: RunWithResults;
  profile: readonly ProfileRow[];
  renamed: () => void;
}

function SegmentRow({ row, mark, segmentation, run, profile, renamed }: RowProps) {
  const [open, setOpen] = useState(false);
  return (
    <li class="found-item">
      <button
        type="button"
        class="found-row"
        aria-expanded={open}
        aria-controls={`segment-${row.id}`}
        onClick={() => setOpen(!open)}
      >
        <MarkIcon mark={mark} />
        <span class="found-text">
          <span class="found-head">
            <strong>{row.name}</strong>
            <span class="found-size">{row.size === null ? 'fewer than 10' : count(row.size)}</span>
          </span>
          {row.share !== null && (
            <span class="share" aria-hidden="true">
              <span style={{ width: `${Math.max(row.share * 100, 0.5)}%` }} />
            </span>
          )}
          <span class="small quiet">{row.sentence}</span>
        </span>
      </button>
      {open && (
        <div id={`segment-${row.id}`} class="found-more">
          <Numbers profile={profile} />
          {run.is_current ? (
            <Uses row={row} segmentation={segmentation} />
          ) : (
            <p class="small quiet">Publish this run to filter by the segment and to export it.</p>
          )}
          {may('segmentations:write') && segmentation.method !== 'rule' && <Rename row={row} renamed={renamed} />}
        </div>
      )}
    </li>
  );
}

/** Rows of a segment's table before the rest is folded away. */
const FEW = 6;

/** A segment's means beside those of all, what tells it from them most first. */
function Numbers({ profile }: { profile: readonly ProfileRow[] }) {
  const rows = profile
    .filter(({ feature, mean, average }) => !isPosition(feature) && mean !== null && average !== null)
    .map(({ feature, mean, average }) => ({ feature, mean: mean ?? 0, average: average ?? 0 }))
    .toSorted((a, b) => apart(b.mean, b.average) - apart(a.mean, a.average));
  if (rows.length === 0) return null;
  return (
    <div class="block">
      <Means rows={rows.slice(0, FEW)} />
      {rows.length > FEW && (
        <details class="fold">
          <summary>{counted(rows.length - FEW, 'more figure')}</summary>
          <Means rows={rows.slice(FEW)} />
        </details>
      )}
    </div>
  );
}

function Means({ rows }: { rows: readonly { feature: string; mean: number; average: number }[] }) {
  return (
    <table class="numbers">
      <thead>
        <tr>
          <th scope="col">On average</th>
          <th scope="col">Here</th>
          <th scope="col">All</th>
        </tr>
      </thead>
      <tbody>
        {rows.map(({ feature, mean, average }) => (
          <tr key={feature}>
            <th scope="row">{featureName(feature)}</th>
            <td>{featureValue(feature, mean)}</td>
            <td>{featureValue(feature, average)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function memberRow(member: Member): ListRow {
  return {
    id: member.id,
    row: `member-${member.id}`,
    name: member.name,
    stage: member.stage,
    detail: member.owner?.name ?? '',
  };
}

/** What can be done with a published segment: see its customers, list them, take them along. */
function Uses({ row, segmentation }: { row: FoundSegment; segmentation: Segmentation }) {
  const [listed, setListed] = useState(false);
  const condition = inSegment(segmentation.key, row.id);
  const text = JSON.stringify(condition);
  // Of the active segmentation tiles carry the segment; others are asked for one by one.
  const shown = segmentation.is_active ? filters.value.segment.includes(row.id) : filters.value.where === text;
  const toggle = () => {
    if (segmentation.is_active) toggleFilter('segment', row.id);
    else showWhere(shown ? null : condition);
  };
  return (
    <>
      <div class="row-actions">
        <button type="button" class="button" onClick={toggle}>
          {shown ? 'Show all on the map' : 'Show only these on the map'}
        </button>
        <button type="button" class="button" aria-expanded={listed} onClick={() => setListed(!listed)}>
          {listed ? 'Hide the list' : 'List the customers'}
        </button>
      </div>
      {listed && <Members id={row.id} />}
      <Audience condition={condition} name={row.name} />
    </>
  );
}

function Members({ id }: { id: string }) {
  const pages = usePages<Member>(`members ${id}`, (cursor, signal) => routes.membersOf(id, cursor, signal));
  return (
    <CustomerList
      pages={pages}
      what="customers of the segment"
      rowOf={memberRow}
      empty={<p class="quiet">None of your customers is in it.</p>}
      summary={(shown, more) => `${counted(shown, 'customer')}${more ? ', and more' : ''}`}
    />
  );
}

function Rename({ row, renamed }: { row: FoundSegment; renamed: () => void }) {
  const [name, setName] = useState(row.name);
  const { problem, submit } = useSubmit();
  const [saved, setSaved] = useState(false);
  const rename = (event: Event) => {
    event.preventDefault();
    setSaved(false);
    void submit(async () => {
      const { version } = await routes.segment(row.id, new AbortController().signal);
      await routes.nameSegment(row.id, version, name.trim());
      setSaved(true);
      renamed();
    });
  };
  return (
    <form class="field" onSubmit={rename}>
      <label for={`name-${row.id}`}>Your name for it</label>
      <div class="name-row">
        <input
          id={`name-${row.id}`}
          class="input"
          required
          maxLength={200}
          value={name}
          onInput={(event) => setName(event.currentTarget.value)}
        />
        <button type="submit" class="button" disabled={name.trim() === '' || name === row.name}>
          Save
        </button>
      </div>
      <p class="small quiet" role="status">
        {saved ? 'Saved. Later runs keep this name.' : ''}
      </p>
      {problem && <Failed problem={problem} />}
    </form>
  );
}
