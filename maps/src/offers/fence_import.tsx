/** Fences from a file: tried first or imported at once, all of it or nothing, with what is wrong line by line. */

import { useEffect, useRef, useState } from 'preact/hooks';
import type { FieldError, Problem } from '../api/client';
import * as routes from '../api/routes';
import { Empty, Failed } from '../components/states';
import { count, counted } from '../format';
import { finished, may } from '../segments/state';
import { useSubmit } from '../state/remote';
import { Field, reveal, TextField } from './faults';
import { type Fault, faultsMet } from './form';
import { drawnFences, fences, loadFences, NOTHING_ON, open, useSketch, written } from './state';

/** What the job says came of it. */
interface Outcome {
  readonly dry_run: boolean;
  readonly new: number;
  readonly changed: number;
  readonly unchanged: number;
  readonly overlaps: readonly (readonly [string, string])[];
}

const COLUMNS = [
  { field: 'external_id', name: 'Id', usual: 'id' },
  { field: 'name', name: 'Name', usual: 'name' },
  { field: 'lon', name: 'Longitude', usual: 'lon' },
  { field: 'lat', name: 'Latitude', usual: 'lat' },
  { field: 'radius_m', name: 'Metres around', usual: 'radius_m' },
  { field: 'dwell_s', name: 'Seconds of staying', usual: 'dwell_s' },
] as const;

const ENDINGS = '.csv,.tsv,.txt,.xlsx,.geojson,.json,.gpkg,.zip,.parquet';

interface Form {
  readonly file: File | null;
  readonly tag: string;
  readonly columns: Readonly<Record<string, string>>;
  readonly metadata: string;
  readonly radius: string;
  readonly dwell: string;
}

const START: Form = { file: null, tag: 'shops', columns: {}, metadata: '', radius: '', dwell: '' };

export function ImportPanel() {
  if (!may('geofences:write'))
    return (
      <Empty title="Your role imports no fences">
        <p>An administrator or a marketer can do it.</p>
      </Empty>
    );
  return <Import />;
}

function Import() {
  const [form, setForm] = useState(START);
  const [faults, setFaults] = useState<readonly Fault[]>([]);
  const [columns, setColumns] = useState<readonly string[]>([]);
  const [refused, setRefused] = useState<Problem | null>(null);
  const [said, setSaid] = useState('');
  const [outcome, setOutcome] = useState<Outcome | null>(null);
  const { busy, problem, submit } = useSubmit();
  const leaving = useRef(new AbortController());
  useEffect(() => () => leaving.current.abort(), []);
  useEffect(() => void loadFences(), []);
  useSketch({ parts: drawnFences(fences.value.rows, NOTHING_ON), moving: [], layers: [], alone: true });
  // What came of it stands below a long form.
  useEffect(() => reveal('.editor .answer, .editor .faults:not([hidden])'), [faults, refused, outcome, problem]);
  const change = (part: Partial<Form>) => {
    setForm((now) => ({ ...now, ...part }));
    setOutcome(null);
    setRefused(null);
    setSaid('');
  };

  /** Rows that cannot be fences are told by their lines; what the form lacks, at its fields. */
  const told = (wrong: Problem): Problem | null => {
    setSaid('');
    if (wrong.columns.length > 0) setColumns(wrong.columns);
    if (wrong.errors.some(({ line }) => line !== undefined)) {
      setRefused(wrong);
      return null;
    }
    const at = faultsMet(wrong);
    setFaults(at);
    if (wrong.status !== 422 || at.length === 0 || !at.every(({ pointer }) => PLACED.test(pointer))) return wrong;
    return null;
  };
  const send = (dryRun: boolean) => {
    const { file } = form;
    const own = faultsOfForm(form);
    setFaults(own);
    setOutcome(null);
    setRefused(null);
    if (own.length > 0 || !file) return;
    const minutes = number(form.dwell);
    void submit(async () => {
      setSaid('The file is on its way…');
      const { job_id } = await routes.importFences({
        file,
        tag: form.tag,
        recipe: {
          columns: Object.fromEntries(Object.entries(form.columns).filter(([, name]) => name.trim() !== '')),
          metadata: form.metadata
            .split(',')
            .map((name) => name.trim())
            .filter((name) => name !== ''),
          radius_m: number(form.radius),
          dwell_s: minutes === null ? null : minutes * 60,
        },
        dryRun,
      });
      const tell = (result: unknown) => {
        const { processed } = (result ?? {}) as { processed?: number };
        setSaid(processed ? `${counted(processed, 'row')} read so far…` : 'The file is there; its rows are read next…');
      };
      const done = (await finished(job_id, { tell, signal: leaving.current.signal })) as Outcome;
      setSaid('');
      setOutcome(done);
      if (dryRun) return;
      written();
      await loadFences(true);
    }, told);
  };
  return (
    <form
      class="block editor"
      aria-labelledby="offers-title"
      onSubmit={(event) => {
        event.preventDefault();
        send(true);
      }}
    >
      <h2 id="offers-title" class="large" tabIndex={-1}>
        Import fences
      </h2>
      <p class="small quiet">
        Polygons, or points with a radius. The file’s own ids name the fences: the same file again changes nothing, and
        what it does not name stays as it is.
      </p>
      <Field
        id="import-file"
        label="File"
        faults={faults}
        of="/file"
        hint="CSV, XLSX, GeoJSON, GeoPackage, zipped Shapefile or Parquet."
      >
        {(tied) => (
          <input
            {...tied}
            type="file"
            class="input"
            accept={ENDINGS}
            onChange={(event) => change({ file: event.currentTarget.files?.[0] ?? null })}
          />
        )}
      </Field>
      <TextField
        id="import-tag"
        label="Tag"
        faults={faults}
        of="/tag"
        hint="What kind of fences they are. An offer can hold in all fences of a tag."
        maxLength={63}
        value={form.tag}
        change={(tag) => change({ tag })}
      />
      <div class="pair">
        <TextField
          id="import-radius"
          label="Metres around points"
          faults={faults}
          of="/recipe/radius_m"
          hint="Where a row has none."
          inputMode="decimal"
          value={form.radius}
          change={(radius) => change({ radius })}
        />
        <TextField
          id="import-dwell"
          label="Minutes of staying"
          faults={faults}
          of="/recipe/dwell_s"
          hint="Where a row has none."
          inputMode="decimal"
          value={form.dwell}
          change={(dwell) => change({ dwell })}
        />
      </div>
      <TextField
        id="import-metadata"
        label="Columns kept as metadata"
        faults={faults}
        of="/recipe/metadata"
        hint="Their names with commas between, such as city, manager."
        value={form.metadata}
        change={(metadata) => change({ metadata })}
      />
      <Columns
        columns={columns}
        faults={faults}
        chosen={form.columns}
        change={(chosen) => change({ columns: chosen })}
      />
      {refused && <RefusedRows problem={refused} />}
      {problem && (
        <div class="answer">
          <Failed problem={problem} />
        </div>
      )}
      {outcome && <Came outcome={outcome} tag={form.tag} />}
      <div class="save-bar">
        <p role="status" class="small">
          {said}
        </p>
        <div class="row-actions">
          {outcome && !outcome.dry_run ? (
            <button type="button" class="button primary" onClick={() => open('fences')}>
              See the fences
            </button>
          ) : (
            <>
              <button
                type="button"
                class={outcome ? 'button primary' : 'button'}
                disabled={busy}
                onClick={() => send(false)}
              >
                Import
              </button>
              <button type="submit" class={outcome ? 'button' : 'button primary'} disabled={busy}>
                {busy ? 'Working…' : 'Try it first'}
              </button>
            </>
          )}
        </div>
      </div>
    </form>
  );
}

const PLACED = /^\/(file|tag|columns|recipe\/(radius_m|dwell_s|metadata))/;

const number = (text: string): number | null => (text.trim() === '' ? null : Number(text));

/** What the form itself knows to be wrong. */
function faultsOfForm({ file, tag, radius, dwell }: Form): readonly Fault[] {
  const faults: Fault[] = [];
  if (!file) faults.push({ pointer: '/file', detail: 'choose a file' });
  if (!/^[a-z0-9][a-z0-9_-]{0,62}$/.test(tag))
    faults.push({ pointer: '/tag', detail: 'small letters and digits, such as shops' });
  const bad = (text: string) => number(text) !== null && !(Number(text) > 0);
  if (bad(radius)) faults.push({ pointer: '/recipe/radius_m', detail: 'metres, or nothing' });
  if (bad(dwell)) faults.push({ pointer: '/recipe/dwell_s', detail: 'minutes, or nothing' });
  return faults;
}

interface ColumnsProps {
  /** Those of the file; none while it was not looked into. */
  columns: readonly string[];
  faults: readonly Fault[];
  chosen: Readonly<Record<string, string>>;
  change: (chosen: Readonly<Record<string, string>>) => void;
}

/** Which column says what, where they are not called as usual. */
function Columns({ columns, faults, chosen, change }: ColumnsProps) {
  const missing = faults.filter(({ pointer }) => pointer === '/columns');
  return (
    <details class="fold" open={columns.length > 0}>
      <summary>Columns that are called otherwise</summary>
      <div class="block">
        {missing.map(({ detail }) => (
          <p key={detail} class="small wrong answer" role="alert">
            {detail}
          </p>
        ))}
        <div class="columns">
          {COLUMNS.map(({ field, name, usual }) => {
            const put = (value: string) => change({ ...chosen, [field]: value });
            const id = `import-${field}`;
            return (
              <div key={field} class="field">
                <label for={id}>{name}</label>
                {columns.length > 0 ? (
                  <select
                    id={id}
                    class="input"
                    value={chosen[field] ?? ''}
                    onChange={(event) => put(event.currentTarget.value)}
                  >
                    <option value="">As usual</option>
                    {/* One that was chosen for another file stays until something else is. */}
                    {chosen[field] && !columns.includes(chosen[field]) && (
                      <option value={chosen[field]}>{chosen[field]}</option>
                    )}
                    {columns.map((column) => (
                      <option key={column} value={column}>
                        {column}
                      </option>
                    ))}
                  </select>
                ) : (
                  <input
                    id={id}
                    class="input"
                    placeholder={usual}
                    maxLength={200}
                    value={chosen[field] ?? ''}
                    onInput={(event) => put(event.currentTarget.value)}
                  />
                )}
              </div>
            );
          })}
        </div>
      </div>
    </details>
  );
}

const LISTED = 50;

function RefusedRows({ problem }: { problem: Problem }) {
  const more = problem.errors.length - LISTED;
  return (
    <section class="failed answer" role="alert" aria-label="Rows that cannot be fences">
      <strong>{problem.message}</strong>
      <ul class="lines" aria-label="Lines">
        {problem.errors.slice(0, LISTED).map(({ line, detail }: FieldError) => (
          <li key={`${line} ${detail}`} class="line">
            <span class="quiet">{`Line ${count(line ?? 0)}`}</span>
            <span>{detail}</span>
          </li>
        ))}
      </ul>
      {more > 0 && <p class="small">{`and ${count(more)} more: mend these first, and try again.`}</p>}
    </section>
  );
}

function Came({ outcome, tag }: { outcome: Outcome; tag: string }) {
  const { dry_run, overlaps } = outcome;
  const parts = [
    `${count(outcome.new)} new`,
    `${count(outcome.changed)} changed`,
    `${count(outcome.unchanged)} as they were`,
  ];
  return (
    <section class="notice answer" role="status" aria-label="What came of it">
      <strong>{dry_run ? 'A try: nothing is written yet' : 'Imported'}</strong>
      <p>{`Fences “${tag}”: ${parts.join(', ')}.`}</p>
      {overlaps.length > 0 && (
        <>
          <p>Some overlap: who stands there is in both.</p>
          <ul class="notes">
            {overlaps.map(([one, other]) => (
              <li key={`${one} ${other}`}>{`${one} and ${other}`}</li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}
