/** One segmentation: where it stands, its runs, what the run that is looked at found, and what to do next. */

import { useEffect, useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Run, Segmentation } from '../api/shapes';
import { Empty, Failed, Loading } from '../components/states';
import { ago, counted, date } from '../format';
import { useRemote, useSubmit } from '../state/remote';
import { loadSegmentations } from '../state/session';
import { colour, colourBy, show, state } from '../state/store';
import { Change, Keeping } from './change';
import { Drift } from './drift';
import { Result } from './result';
import { ScoreFilter } from './scores';
import { finished, may, refreshShown, useRun } from './state';
import { isGoing, methodWords, progressOf, standing, statusOf } from './words';

export function DetailPanel({ id, known }: { id: string; known: Segmentation | null }) {
  const [stamp, setStamp] = useState(0);
  const [remote, again] = useRemote(`runs ${id} ${stamp}`, (signal) => routes.runsOf(id, signal));
  // What was shown stays while it is asked for again.
  const [runs, setRuns] = useState<readonly Run[] | null>(null);
  useEffect(() => {
    if (remote.status === 'ready') setRuns(remote.data.data);
  }, [remote]);
  const anew = () => {
    setStamp((n) => n + 1);
    void loadSegmentations();
  };
  if (!known) {
    return (
      <Empty title="Segmentation not found">
        <p>There is no such segmentation, or it was put away.</p>
      </Empty>
    );
  }
  if (remote.status === 'failed') return <Failed problem={remote.problem} again={again} />;
  if (!runs) return <Loading what="the segmentation" lines={7} />;
  const wanted = state.value.run ?? known.current_run ?? runs[0]?.number ?? null;
  return (
    <>
      <Head segmentation={known} />
      {runs.length === 0 ? (
        <Empty title="Not run yet">
          <p>A run divides the customers. Nobody sees it before it is published.</p>
        </Empty>
      ) : (
        <Shown segmentation={known} runs={runs} number={wanted} stamp={stamp} anew={anew} />
      )}
      {may('segmentations:write') && <Change segmentation={known} going={runs.some(isGoing)} anew={anew} />}
      <Keeping segmentation={known} />
    </>
  );
}

function Head({ segmentation }: { segmentation: Segmentation }) {
  const { word, means } = standing(segmentation);
  const { name, what } = methodWords(segmentation.method);
  return (
    <section class="block" aria-labelledby="segments-title">
      <h2 id="segments-title" class="large" tabIndex={-1}>
        {segmentation.name}
      </h2>
      <p class="small quiet">{segmentation.name === name ? what : `${name}. ${what}`}</p>
      <p>
        <span class={segmentation.is_active ? 'badge strong' : 'badge'}>{word}</span>{' '}
        <span class="small quiet">{means}</span>
      </p>
    </section>
  );
}

interface ShownProps {
  segmentation: Segmentation;
  runs: readonly Run[];
  number: number | null;
  stamp: number;
  anew: () => void;
}

function Shown({ segmentation, runs, number, stamp, anew }: ShownProps) {
  const { run, problem } = useRun(segmentation.id, number, stamp, anew);
  return (
    <>
      <section class="block" aria-label="The run that is shown">
        <div class="field">
          <label for="run">Run</label>
          <select
            id="run"
            class="input"
            value={String(number)}
            onChange={(event) => show({ run: Number(event.currentTarget.value) })}
          >
            {runs.map((row) => {
              const now = row.number === run?.number ? run : row; // the list is as old as the page, the run is not
              return (
                <option key={row.number} value={String(row.number)}>
                  {`${row.number}: ${now.is_current ? 'published' : statusOf(now).toLowerCase()}, ${ago(row.created_at)}`}
                </option>
              );
            })}
          </select>
        </div>
        {problem && <Failed problem={problem} />}
        {!run && !problem && <Loading what="the run" lines={4} />}
        {run && <RunState run={run} segmentation={segmentation} runs={runs} anew={anew} />}
      </section>
      {run?.status === 'done' && (
        <>
          <Result segmentation={segmentation} run={run} renamed={anew} />
          {run.is_current && run.score_names.length > 0 && <ScoreFilter segmentation={segmentation} />}
          <Drift segmentation={segmentation} runs={runs} run={run} />
        </>
      )}
    </>
  );
}

interface RunStateProps {
  run: Run;
  segmentation: Segmentation;
  runs: readonly Run[];
  anew: () => void;
}

/** How far a run is, why it failed, or what can be done with it. */
function RunState({ run, segmentation, runs, anew }: RunStateProps) {
  const { busy, problem, submit } = useSubmit();
  const [doing, setDoing] = useState('');
  const { id } = segmentation;
  const work = (what: string, ask: () => Promise<{ job_id: string } | unknown>, shown: boolean) => {
    setDoing(what);
    return submit(async () => {
      const answer = (await ask()) as { job_id?: unknown };
      if (shown && typeof answer.job_id === 'string') {
        await finished(answer.job_id);
        await refreshShown();
      }
      anew();
    });
  };
  if (isGoing(run))
    return <Going run={run} cancel={() => work('Cancelling…', () => routes.cancelRun(id, run.number), false)} />;
  if (run.status === 'failed') {
    const { title, detail } = (run.error ?? {}) as { title?: string; detail?: string };
    return (
      <div class="failed" role="alert">
        <strong>{title ?? 'This run failed'}</strong>
        {detail && <p>{detail}</p>}
        <p class="small">
          It went by what was known on {date(run.cutoff)}.{' '}
          {segmentation.current_run === null ? 'Nothing is published yet.' : 'What is published stays as it is.'}
        </p>
      </div>
    );
  }
  if (run.status === 'cancelled') return <p>This run was cancelled and left nothing behind.</p>;
  const publishes = may('segmentations:publish');
  const former = runs.find((row) => row.published_at && !row.is_current && row.kept);
  return (
    <>
      <p class="small quiet">
        {segmentation.method === 'rule' ? 'As of' : 'By what was known on'} {date(run.cutoff)}
        {run.customers !== null && ` · ${counted(run.customers, 'customer')} in segments`}
      </p>
      {!run.kept && <p class="small">Who was in which segment was deleted to make room for newer runs.</p>}
      {publishes && run.kept && (
        <div class="row-actions">
          {!run.is_current && (
            <button
              type="button"
              class="button primary"
              disabled={busy}
              onClick={() => work('Publishing…', () => routes.publishRun(id, run.number), true)}
            >
              Publish this run
            </button>
          )}
          {run.is_current && !segmentation.is_active && (
            <button
              type="button"
              class="button primary"
              disabled={busy}
              onClick={() => work('Putting it on the map…', () => routes.activateSegmentation(id), true)}
            >
              Put it on the map
            </button>
          )}
          {run.is_current && former && (
            <button
              type="button"
              class="button"
              disabled={busy}
              onClick={() => work('Going back…', () => routes.revertSegmentation(id), true)}
            >
              Go back to the former run
            </button>
          )}
        </div>
      )}
      {segmentation.is_active && run.is_current && colour.value !== 'segment' && (
        <button type="button" class="button" onClick={() => colourBy('segment')}>
          Colour the map by these segments
        </button>
      )}
      {publishes && run.kept && run.is_current && !segmentation.is_active && (
        <p class="small quiet">
          One segmentation at a time is on everybody’s map. Putting this one there takes the present one away; that one
          stays published.
        </p>
      )}
      {!publishes && !run.is_current && may('segmentations:write') && (
        <p class="small quiet">A marketer or an administrator publishes it.</p>
      )}
      <p role="status" class={busy ? 'small' : 'hidden-visually'}>
        {busy && doing}
      </p>
      {problem && <Failed problem={problem} />}
    </>
  );
}

function Going({ run, cancel }: { run: Run; cancel: () => void }) {
  const { phase, done, total } = progressOf(run);
  return (
    <div class="going">
      <p role="status">{phase}…</p>
      <progress
        aria-label="How far the run is"
        {...(total === null ? {} : { max: total, value: Math.min(done, total) })}
      />
      <div class="block-head">
        <span class="small quiet">
          {total === null
            ? ''
            : `${counted(Math.min(done, total), 'customer')} of ${counted(total, 'customer').split(' ')[0]}`}
        </span>
        {may('segmentations:write') && (
          <button type="button" class="button" onClick={cancel}>
            Cancel
          </button>
        )}
      </div>
      <p class="small quiet">You can leave this page; the run goes on.</p>
    </div>
  );
}
