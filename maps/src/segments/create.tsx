/** A new segmentation: by what method, how it is called, what the method wants to know; then its first run. */

import { useState } from 'preact/hooks';
import * as routes from '../api/routes';
import { Failed } from '../components/states';
import { useSubmit } from '../state/remote';
import { company, loadSegmentations } from '../state/session';
import { show } from '../state/store';
import { GroupsForm, type GroupsParameters, START_GROUPS } from './groups_form';
import { type Chosen, MethodChoices } from './parameters';
import { RuleBuilder } from './rule_builder';
import { ruleFields } from './rule_fields';
import { type Draft, emptyDraft, filterOf, rulesParameter } from './rules';
import { keyFor, methodWords } from './words';

export function CreatePanel({ method }: { method: string | null }) {
  if (method === null || !company.value.methods.includes(method)) return <Methods />;
  return <Form key={method} method={method} />;
}

function Methods() {
  return (
    <section class="block" aria-labelledby="segments-title">
      <h2 id="segments-title" tabIndex={-1}>
        How are customers to be divided?
      </h2>
      <ul class="segmentations">
        {company.value.methods.map((method) => {
          const { name, what } = methodWords(method);
          return (
            <li key={method}>
              <button type="button" class="segmentation" onClick={() => show({ segmentation: `new.${method}` })}>
                <strong>{name}</strong>
                <span class="small quiet">{what}</span>
              </button>
            </li>
          );
        })}
      </ul>
    </section>
  );
}

/** A name that no other segmentation has. */
function freeName(wanted: string, taken: readonly string[]): string {
  let name = wanted;
  for (let number = 2; taken.includes(name); number++) name = `${wanted} ${number}`;
  return name;
}

function Form({ method }: { method: string }) {
  const { segmentations } = company.value;
  const { name: called, what } = methodWords(method);
  const [name, setName] = useState(() =>
    method === 'rule'
      ? ''
      : freeName(
          called,
          segmentations.map((row) => row.name),
        ),
  );
  const [groups, setGroups] = useState<GroupsParameters>(START_GROUPS);
  const [drafts, setDrafts] = useState<readonly Draft[]>([emptyDraft('')]);
  const [chosen, setChosen] = useState<Chosen>({});
  const { busy, problem, submit } = useSubmit();

  const whole = method !== 'rule' || drafts.every((draft) => filterOf(draft, ruleFields.value) !== null);

  const create = (event: Event) => {
    event.preventDefault();
    void submit(async () => {
      const made = await routes.createSegmentation({
        key: keyFor(
          name,
          segmentations.map((row) => row.key),
        ),
        name: name.trim(),
        method: method as routes.NewSegmentation['method'],
        parameters:
          method === 'groups'
            ? { ...groups }
            : method === 'rule'
              ? rulesParameter(drafts, ruleFields.value)
              : { ...chosen },
      });
      const { number } = await routes.runSegmentation(made.id, null);
      await loadSegmentations();
      show({ segmentation: made.id, run: number });
    });
  };

  return (
    <form class="block" aria-labelledby="segments-title" onSubmit={create}>
      <h2 id="segments-title" tabIndex={-1}>
        {called}
      </h2>
      <p class="small quiet">{what}</p>
      <div class="field">
        <label for="segmentation-name">{method === 'rule' ? 'Name of the segmentation' : 'Name'}</label>
        <input
          id="segmentation-name"
          class="input"
          required
          maxLength={200}
          placeholder={method === 'rule' ? 'For instance: Spring mailing' : undefined}
          value={name}
          onInput={(event) => setName(event.currentTarget.value)}
        />
      </div>
      <MethodChoices method={method} chosen={chosen} change={setChosen} />
      {method === 'groups' && <GroupsForm parameters={groups} change={setGroups} />}
      {method === 'rule' && <RuleBuilder drafts={drafts} change={setDrafts} />}
      {problem && <Failed problem={problem} />}
      <button type="submit" class="button primary" disabled={busy || !whole}>
        {busy ? 'Creating…' : 'Create and run'}
      </button>
      <p class="small quiet">Nothing changes for anybody yet: you look at what the run finds, then publish it.</p>
    </form>
  );
}
