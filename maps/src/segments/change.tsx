/** Running a segmentation again, with other parameters or as of another day; refreshing by itself; putting it away. */

import { useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Segmentation } from '../api/shapes';
import { Failed } from '../components/states';
import { useSubmit } from '../state/remote';
import { loadSegmentations } from '../state/session';
import { show } from '../state/store';
import { GroupsForm, type GroupsParameters, START_GROUPS } from './groups_form';
import { RuleBuilder } from './rule_builder';
import { ruleFields } from './rule_fields';
import { type Draft, draftOf, filterOf, rulesParameter } from './rules';
import { may } from './state';

function storedRules(segmentation: Segmentation): readonly Draft[] {
  const { rules } = segmentation.parameters;
  if (!Array.isArray(rules)) return [];
  return (rules as { name: string; filter: unknown }[]).map(({ name, filter }) =>
    draftOf(name, filter, ruleFields.value),
  );
}

function storedGroups(segmentation: Segmentation): GroupsParameters {
  const { dial, k } = segmentation.parameters;
  return {
    ...START_GROUPS,
    ...(typeof dial === 'number' ? { dial } : {}),
    ...(typeof k === 'number' ? { k } : {}),
  };
}

interface ChangeProps {
  segmentation: Segmentation;
  going: boolean;
  anew: () => void;
}

/** Run again, with the parameters as they are or others. */
export function Change({ segmentation, going, anew }: ChangeProps) {
  const [open, setOpen] = useState(false);
  const { busy, problem, submit } = useSubmit();
  const [day, setDay] = useState('');
  const { id, method, version } = segmentation;
  const changeable = method === 'groups' || method === 'rule';
  const run = (parameters: Record<string, unknown> | null) =>
    submit(async () => {
      if (parameters) await routes.editSegmentation(id, version, { parameters });
      const { number } = await routes.runSegmentation(id, day === '' ? null : `${day}T00:00:00Z`);
      await loadSegmentations();
      setOpen(false);
      show({ run: number });
      anew();
    });
  return (
    <section class="block" aria-labelledby="again-title">
      <h3 id="again-title">Run again</h3>
      <p class="small quiet">
        A new run takes in what has happened since. It changes nothing that is published until you publish it.
      </p>
      {method !== 'rule' && (
        <details class="fold">
          <summary>As of another day</summary>
          <div class="field">
            <label for="run-day">By what was known before</label>
            <input
              id="run-day"
              class="input"
              type="date"
              max={new Date().toISOString().slice(0, 10)}
              value={day}
              onInput={(event) => setDay(event.currentTarget.value)}
            />
            <p class="small quiet">Left empty: by what is known today. An earlier day shows who has moved since.</p>
          </div>
        </details>
      )}
      {problem && <Failed problem={problem} />}
      <div class="row-actions">
        <button type="button" class="button" disabled={busy || going} onClick={() => void run(null)}>
          Run now
        </button>
        {changeable && (
          <button type="button" class="button" aria-expanded={open} onClick={() => setOpen(!open)}>
            {method === 'groups' ? 'Change the dial' : 'Change the rules'}
          </button>
        )}
      </div>
      {open && method === 'groups' && (
        <ChangeGroups segmentation={segmentation} run={(parameters) => void run(parameters)} busy={busy || going} />
      )}
      {open && method === 'rule' && (
        <ChangeRules segmentation={segmentation} run={(parameters) => void run(parameters)} busy={busy || going} />
      )}
    </section>
  );
}

interface FormProps {
  segmentation: Segmentation;
  run: (parameters: Record<string, unknown>) => void;
  busy: boolean;
}

function ChangeGroups({ segmentation, run, busy }: FormProps) {
  const [parameters, setParameters] = useState(() => storedGroups(segmentation));
  return (
    <form
      class="block"
      aria-label="The dial"
      onSubmit={(event) => {
        event.preventDefault();
        const { k: _, ...others } = segmentation.parameters;
        run({ ...others, ...parameters });
      }}
    >
      <GroupsForm parameters={parameters} change={setParameters} />
      <button type="submit" class="button primary" disabled={busy}>
        Save and run
      </button>
    </form>
  );
}

function ChangeRules({ segmentation, run, busy }: FormProps) {
  const [drafts, setDrafts] = useState(() => storedRules(segmentation));
  const whole = drafts.every((draft) => filterOf(draft, ruleFields.value) !== null);
  return (
    <form
      class="block"
      aria-label="The rules"
      onSubmit={(event) => {
        event.preventDefault();
        run(rulesParameter(drafts, ruleFields.value));
      }}
    >
      <RuleBuilder drafts={drafts} change={setDrafts} />
      <button type="submit" class="button primary" disabled={busy || !whole}>
        Save and run
      </button>
    </form>
  );
}

const EVERY: readonly { days: number; name: string }[] = [
  { days: 1, name: 'Every day' },
  { days: 7, name: 'Every week' },
  { days: 30, name: 'Every month' },
  { days: 91, name: 'Every quarter' },
];

/** What changes what everybody sees, now or by itself: for those who publish. */
export function Keeping({ segmentation }: { segmentation: Segmentation }) {
  const { problem, submit } = useSubmit();
  if (!may('segmentations:publish')) return null;
  const { id, version, refresh_days, is_active, name } = segmentation;
  const edit = (change: { refresh_days?: number | null; archived?: boolean }) =>
    submit(async () => {
      await routes.editSegmentation(id, version, change);
      await loadSegmentations();
      if (change.archived) show({ segmentation: null, run: null });
    });
  const known = EVERY.some(({ days }) => days === refresh_days);
  return (
    <section class="block" aria-labelledby="keeping-title">
      <h3 id="keeping-title">Keeping it fresh</h3>
      <div class="field">
        <label for="refresh">Run and publish by itself</label>
        <select
          id="refresh"
          class="input"
          value={refresh_days ? String(refresh_days) : ''}
          onChange={(event) => void edit({ refresh_days: Number(event.currentTarget.value) || null })}
        >
          <option value="">Never</option>
          {EVERY.map(({ days, name: called }) => (
            <option key={days} value={String(days)}>
              {called}
            </option>
          ))}
          {refresh_days && !known && <option value={String(refresh_days)}>{`Every ${refresh_days} days`}</option>}
        </select>
      </div>
      {problem && <Failed problem={problem} />}
      {is_active ? (
        <p class="small quiet">It is on the map; put another one there before you put this one away.</p>
      ) : (
        <button type="button" class="button plain" onClick={() => void edit({ archived: true })}>
          Put “{name}” away
        </button>
      )}
    </section>
  );
}
