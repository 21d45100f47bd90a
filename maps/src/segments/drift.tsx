/** Who moved where between two runs. */

import { useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Run, RunWithResults, Segmentation } from '../api/shapes';
import { Failed, Loading } from '../components/states';
import { ago, count, counted } from '../format';
import { useRemote } from '../state/remote';
import { readResults } from './results';

const SHORT = 8;

interface Props {
  segmentation: Segmentation;
  runs: readonly Run[];
  run: RunWithResults;
}

export function Drift({ segmentation, runs, run }: Props) {
  const others = runs.filter((row) => row.status === 'done' && row.kept && row.number !== run.number);
  const { drift } = readResults(run);
  const usual =
    others.find((row) => row.number === drift?.against_run) ??
    others.find((row) => row.number < run.number) ??
    others[0];
  const [chosen, setChosen] = useState<number | null>(null);
  const [all, setAll] = useState(false);
  const from = others.find((row) => row.number === chosen)?.number ?? usual?.number ?? null;
  const key = from === null || !run.kept ? null : `moves ${segmentation.id} ${from} ${run.number}`;
  const [remote, again] = useRemote(key, (signal) => routes.movesOf(segmentation.id, from ?? 0, run.number, signal));
  if (key === null) return null;
  return (
    <section class="block" aria-labelledby="drift-title">
      <h3 id="drift-title">Who moved where</h3>
      <div class="field">
        <label for="drift-from">Since run</label>
        <select
          id="drift-from"
          class="input"
          value={String(from)}
          onChange={(event) => setChosen(Number(event.currentTarget.value))}
        >
          {others.map((row) => (
            <option key={row.number} value={String(row.number)}>
              {`${row.number}${row.is_current ? ', published' : ''}, ${ago(row.created_at)}`}
            </option>
          ))}
        </select>
      </div>
      {remote.status === 'loading' && <Loading what="moves" lines={3} />}
      {remote.status === 'failed' && <Failed problem={remote.problem} again={again} />}
      {remote.status === 'ready' && (
        <Moves
          moves={remote.data.data}
          verdict={drift && drift.against_run === from ? drift.verdict : ''}
          all={all}
          toggle={() => setAll(!all)}
        />
      )}
    </section>
  );
}

interface Move {
  readonly from_segment: { readonly id: string; readonly name?: string | null } | null;
  readonly to_segment: { readonly id: string; readonly name?: string | null } | null;
  readonly customers: number;
}

const called = (segment: Move['from_segment']): string => segment?.name ?? segment?.id ?? 'in none';

interface MovesProps {
  moves: readonly Move[];
  verdict: string;
  all: boolean;
  toggle: () => void;
}

function Moves({ moves, verdict, all, toggle }: MovesProps) {
  const changed = moves
    .filter(({ from_segment, to_segment }) => from_segment?.id !== to_segment?.id)
    .toSorted((a, b) => b.customers - a.customers);
  const total = moves.reduce((sum, { customers }) => sum + customers, 0);
  const moved = changed.reduce((sum, { customers }) => sum + customers, 0);
  if (changed.length === 0) return <p class="quiet">Nobody moved: every customer is where it was.</p>;
  const most = changed[0]?.customers ?? 1;
  return (
    <>
      <p class="small">
        {counted(moved, 'customer')} of {count(total)} moved ({Math.round((moved / Math.max(total, 1)) * 100)} %).{' '}
        {verdict}
      </p>
      <ul class="moves">
        {changed.slice(0, all ? undefined : SHORT).map((row) => (
          <li key={`${row.from_segment?.id} ${row.to_segment?.id}`} class="move">
            <span class="move-names">
              {called(row.from_segment)} <span aria-hidden="true">→</span>
              <span class="hidden-visually">to</span> {called(row.to_segment)}
            </span>
            <span class="move-count">{count(row.customers)}</span>
            <span class="move-bar" style={{ width: `${(row.customers / most) * 100}%` }} aria-hidden="true" />
          </li>
        ))}
      </ul>
      {changed.length > SHORT && (
        <button type="button" class="button plain" aria-expanded={all} onClick={toggle}>
          {all ? 'Show fewer' : `Show all ${changed.length}`}
        </button>
      )}
    </>
  );
}
