/** An offer as a form: a new one, a draft, or the next version of one that is live. */

import { useEffect, useRef, useState } from 'preact/hooks';
import type { Problem } from '../api/client';
import * as routes from '../api/routes';
import type { Offer, Product } from '../api/shapes';
import { Confirm } from '../components/confirm';
import { Failed } from '../components/states';
import { Icon } from '../design/icons';
import { Conditions } from '../segments/rule_builder';
import { ruleFields } from '../segments/rule_fields';
import { may } from '../segments/state';
import { asProblem, useRemote, useSubmit } from '../state/remote';
import { show } from '../state/store';
import { CalendarForm } from './calendar_form';
import { Faults, Field, reveal, TextField } from './faults';
import { audienceOf, bodyOf, type Fault, type Form, faultsMet, formOf, hasField, inOrder } from './form';
import { HERE } from './hours_form';
import { HoldOut, HowOften } from './how_often_form';
import { ListField } from './list_field';
import { PairsFields } from './pairs_form';
import { Reach } from './reach';
import { made, open, wantsLive, written } from './state';
import { WhereForm } from './where_form';
import { fieldName, warningWords } from './words';

interface Props {
  /** null for a new one. */
  offer: Offer | null;
  done: () => void;
}

interface Kept {
  readonly held: Offer | null;
  readonly stored: Form;
  readonly form: Form;
}
/** Forms that were left with changes, by the offer: whoever comes back finds them. */
const kept = new Map<string, Kept>();
const NEW = 'new';
export const isKept = (offer: string): boolean => kept.has(offer);

export function Editor({ offer, done }: Props) {
  const former = useRef(kept.get(offer?.id ?? NEW)).current;
  const [held, setHeld] = useState(former?.held ?? offer);
  const key = held?.id ?? NEW;
  const [stored, setStored] = useState(() => former?.stored ?? startOf(offer));
  const [form, setForm] = useState(former?.form ?? stored);
  const [faults, setFaults] = useState<readonly Fault[]>([]);
  const [said, setSaid] = useState(former ? 'Not saved yet: your changes from before.' : '');
  const { busy, problem, submit } = useSubmit();
  const [conflict, setConflict] = useState<Offer | null>(null);
  const change = (part: Partial<Form>) => {
    setForm((now) => ({ ...now, ...part }));
    setSaid('');
    setLeaving(false);
  };
  const changed = JSON.stringify(form) !== JSON.stringify(stored);
  useEffect(() => {
    if (!changed) {
      kept.delete(key);
      return;
    }
    kept.set(key, { held, stored, form });
    const warn = (event: BeforeUnloadEvent) => event.preventDefault();
    window.addEventListener('beforeunload', warn);
    return () => window.removeEventListener('beforeunload', warn);
  }, [changed, form, held, stored]);

  /** Says what is wrong at its fields, and brings the first of them into view. */
  const mark = (found: readonly Fault[]) => {
    setFaults(found);
    reveal();
  };

  /** What the API refuses is said at its fields where it names them. */
  const refused = async (wrong: Problem): Promise<Problem | null> => {
    if (wrong.status === 412 && held) {
      // Somebody else wrote meanwhile: what they wrote is asked for.
      try {
        setConflict(await routes.offer(held.id, new AbortController().signal));
        return null;
      } catch (error) {
        return asProblem(error);
      }
    }
    const at = faultsMet(wrong);
    mark(at);
    if (wrong.status !== 422 || at.length === 0) return wrong;
    setSaid(`Not saved: see ${fieldsOf(at)}.`);
    return null;
  };

  const save = (version = held?.version) =>
    submit(async () => {
      const { body, faults: own } = bodyOf(form, ruleFields.value);
      mark(own);
      setConflict(null);
      setSaid('');
      if (own.length > 0) {
        setSaid(`Not saved: see ${fieldsOf(own)}.`);
        return;
      }
      const saved =
        held && version !== undefined ? await routes.editOffer(held.id, version, body) : await routes.createOffer(body);
      if (held === null) {
        // From here on it is that offer's page: loaded anew, it shows what was saved.
        kept.delete(NEW);
        made.value = saved.id;
        show({ offer: saved.id }, 'quiet');
      }
      setHeld(saved);
      setStored(form);
      const { data, warnings } = await routes.checkOffer(saved.id);
      mark(data);
      setSaid(
        data.length === 0
          ? ['Saved. Nothing stands in the way of going live.', ...warningWords(warnings)].join(' ')
          : `Saved. To go live it still lacks: ${fieldsOf(data)}.`,
      );
    }, refused);

  const takeTheirs = (theirs: Offer) => {
    const start = startOf(theirs);
    setHeld(theirs);
    setStored(start);
    setForm(start);
    setConflict(null);
  };
  const leave = () => {
    kept.delete(key);
    if (held !== offer) written();
    if (held === null) open(null);
    else done();
  };
  const [leaving, setLeaving] = useState(false);
  const isWhole = held?.draft && !changed && faults.length === 0 && may('offers:publish');

  return (
    <form
      class="block editor"
      aria-labelledby="offers-title"
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <h2 id="offers-title" class="large" tabIndex={-1}>
        {held === null ? 'New offer' : held.live ? `${held.name}: the next version` : held.name}
      </h2>
      {held?.live && (
        <p class="small quiet">
          What customers have now stays as it is. This draft takes its place when it is set live itself.
        </p>
      )}
      <What form={form} faults={faults} change={change} />
      <Who form={form} faults={faults} change={change} />
      <WhereForm
        areas={form.areas}
        faults={faults}
        change={(next) => {
          setForm((now) => ({ ...now, areas: next(now.areas) }));
          setSaid('');
        }}
      />
      <CalendarForm form={form} faults={faults} change={change} />
      <HowOften form={form} faults={faults} change={change} />
      <HoldOut form={form} faults={faults} change={change} fixed={held?.live != null} />
      <div class="save-bar">
        {problem && <Failed problem={problem} />}
        {leaving ? (
          <Confirm
            question="Drop your changes?"
            yes="Drop them"
            no="Keep them"
            busy={busy}
            act={leave}
            cancel={() => {
              setLeaving(false);
              // The button that asked stands in the bar again.
              requestAnimationFrame(() => document.getElementById('offer-leave')?.focus({ preventScroll: true }));
            }}
          >
            <p>{held === null ? 'The offer was never saved.' : 'What you changed since the last saving is lost.'}</p>
          </Confirm>
        ) : conflict ? (
          <div class="notice" role="alert">
            <strong>Not saved: somebody else has changed this offer meanwhile</strong>
            <div class="row-actions">
              <button type="button" class="button primary" disabled={busy} onClick={() => takeTheirs(conflict)}>
                Take theirs, drop mine
              </button>
              <button type="button" class="button" disabled={busy} onClick={() => void save(conflict.version)}>
                Save mine over it
              </button>
            </div>
          </div>
        ) : (
          <>
            <p role="status" class="small">
              {said}
            </p>
            <Elsewhere faults={faults} />
            <div class="row-actions">
              {isWhole && (
                <button
                  type="button"
                  class="button primary"
                  disabled={busy}
                  onClick={() => {
                    wantsLive.value = held;
                    leave();
                  }}
                >
                  Set live…
                </button>
              )}
              <button type="submit" class={isWhole ? 'button' : 'button primary'} disabled={busy}>
                {busy ? 'Saving…' : 'Save draft'}
              </button>
              {changed && stored !== form && (
                <button
                  type="button"
                  class="button"
                  disabled={busy}
                  onClick={() => {
                    setForm(stored);
                    setFaults([]);
                    setSaid('Your changes since the last saving are undone.');
                  }}
                >
                  Undo
                </button>
              )}
              <button
                type="button"
                id="offer-leave"
                class="button"
                disabled={busy}
                onClick={() => (changed ? setLeaving(true) : leave())}
              >
                {changed ? 'Cancel' : 'Done'}
              </button>
            </div>
          </>
        )}
      </div>
    </form>
  );
}

const fieldsOf = (faults: readonly Fault[]): string =>
  [...new Set(inOrder(faults).map(({ pointer }) => fieldName(pointer)))].join(', ');

const startOf = (offer: Offer | null): Form =>
  formOf(offer?.name ?? '', offer?.draft ?? offer?.live ?? null, HERE, ruleFields.value, offer?.campaign_id);

/** Faults of what has no field of its own here. */
function Elsewhere({ faults }: { faults: readonly Fault[] }) {
  const rest = faults.filter((fault) => !hasField(fault));
  return rest.length === 0 ? null : (
    <ul class="faults">
      {rest.map(({ pointer, detail }) => (
        <li key={pointer} class="small wrong">{`${pointer} ${detail}`}</li>
      ))}
    </ul>
  );
}

interface PartProps {
  form: Form;
  faults: readonly Fault[];
  change: (part: Partial<Form>) => void;
}

function What({ form, faults, change }: PartProps) {
  return (
    <fieldset class="rule">
      <legend class="field-name">What</legend>
      <TextField
        id="offer-name"
        label="Name, for you"
        faults={faults}
        of="/name"
        maxLength={300}
        placeholder="For instance: Spring coffee"
        value={form.name}
        change={(name) => change({ name })}
      />
      <TextField
        id="offer-title"
        label="Title, for the customer"
        faults={faults}
        of="/title"
        maxLength={300}
        placeholder="For instance: A coffee on us"
        value={form.title}
        change={(title) => change({ title })}
      />
      <Field id="offer-terms" label="Terms" faults={faults} of="/terms">
        {(tied) => (
          <textarea
            {...tied}
            class="input"
            rows={3}
            maxLength={20_000}
            value={form.terms}
            onInput={(event) => change({ terms: event.currentTarget.value })}
          />
        )}
      </Field>
      <TextField
        id="offer-code"
        label="Code, for the app or the till"
        faults={faults}
        of="/attributes/code"
        hint="The app is given it with the offer."
        maxLength={300}
        value={form.code}
        change={(code) => change({ code })}
      />
      <PairsFields
        id="offer-attributes"
        title="More for the app"
        hint="Names and values of your own, given with the offer."
        add={form.pairs.length === 0 ? 'Add a value' : 'More values'}
        pairs={form.pairs}
        faults={faults}
        of="/attributes"
        change={(pairs) => change({ pairs })}
      />
      <Products form={form} faults={faults} change={change} />
    </fieldset>
  );
}

const FEW = 6;

function Products({ form, faults, change }: PartProps) {
  const [remote, again] = useRemote<readonly Product[]>('products', () => routes.products());
  const [text, setText] = useState('');
  const all = remote.status === 'ready' ? remote.data : [];
  const sought = text.trim().toLowerCase();
  const found =
    sought === ''
      ? []
      : all.filter(({ id, name }) => !form.products.includes(id) && name.toLowerCase().includes(sought)).slice(0, FEW);
  const called = (id: string) => all.find((one) => one.id === id)?.name ?? id;
  return (
    <div class="block">
      <Field id="offer-product" label="Products, if it is for some" faults={faults} of="/product_ids">
        {(tied) => (
          <input
            {...tied}
            class="input"
            type="search"
            autocomplete="off"
            placeholder="A part of the name"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        )}
      </Field>
      {remote.status === 'failed' && <Failed problem={remote.problem} again={again} />}
      {sought !== '' && remote.status === 'ready' && found.length === 0 && (
        <p class="small quiet">{`No other product is called “${text}”.`}</p>
      )}
      {found.length > 0 && (
        <ul class="options" aria-label="Products found">
          {found.map(({ id, name, category }) => (
            <li key={id}>
              <button
                type="button"
                class="option"
                onClick={() => {
                  change({ products: [...form.products, id] });
                  setText('');
                }}
              >
                <strong>{name}</strong>
                <span class="small quiet">{category ?? ''}</span>
              </button>
            </li>
          ))}
        </ul>
      )}
      {form.products.length > 0 && (
        <ul class="chips" aria-label="Products of the offer">
          {form.products.map((id) => (
            <li key={id}>
              <span>{called(id)}</span>
              <button
                type="button"
                class="icon-button"
                aria-label={`Take away: ${called(id)}`}
                onClick={() => change({ products: form.products.filter((one) => one !== id) })}
              >
                <Icon name="close" />
              </button>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

const WHO: readonly { who: Form['who']; name: string }[] = [
  { who: 'everybody', name: 'Everybody' },
  { who: 'conditions', name: 'An audience' },
  { who: 'list', name: 'A list' },
];

function Who({ form, faults, change }: PartProps) {
  const audience = audienceOf(form, ruleFields.value);
  return (
    <fieldset class="rule">
      <legend class="field-name">For whom</legend>
      <div class="choices">
        {WHO.map(({ who, name }) => (
          <button
            key={who}
            type="button"
            class="choice"
            aria-pressed={form.who === who}
            onClick={() => change({ who })}
          >
            {name}
          </button>
        ))}
      </div>
      {form.who === 'conditions' && (
        <Conditions id="audience" of="the audience" draft={form.audience} change={(audience) => change({ audience })} />
      )}
      {form.who === 'list' && (
        <ListField
          id="offer-list"
          hint="Automations enter customers into it; whoever is in it has the offer."
          list={form.list}
          faults={[]}
          of="/audience"
          change={(list) => change({ list })}
        />
      )}
      <Faults id="audience" faults={faults} of={['/audience']} />
      <TextField
        id="offer-consent"
        label="Consent that the customer must have given"
        faults={faults}
        of="/consent_purpose"
        hint="The purpose of the consent, such as marketing. Empty: none is needed."
        maxLength={60}
        value={form.consent}
        change={(consent) => change({ consent })}
      />
      {(form.who === 'everybody' || audience) && <Reach audience={audience} consent={form.consent} />}
    </fieldset>
  );
}

const leaveNew = (): void => {
  made.value = null;
};

/** The form of a new offer; left once it is saved, it makes room for the page of that offer. */
export function NewOffer() {
  useEffect(() => {
    document.getElementById('offer-name')?.focus({ preventScroll: true });
    return leaveNew;
  }, []);
  return <Editor offer={null} done={leaveNew} />;
}
