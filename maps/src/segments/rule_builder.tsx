/** Rules as rows of conditions, each with its sentence and how many customers pass it now. */

import { previewRule } from '../api/routes';
import type { RulePreview } from '../api/shapes';
import { Failed } from '../components/states';
import { Icon } from '../design/icons';
import { counted } from '../format';
import { filters, showWhere } from '../state/store';
import { Audience } from './audience';
import { ruleFields } from './rule_fields';
import { type Draft, emptyDraft, emptyRow, type Field, faultOf, filterOf, OPERATIONS, type Row } from './rules';
import { usePreview } from './state';

interface Props {
  drafts: readonly Draft[];
  change: (drafts: readonly Draft[]) => void;
}

export function RuleBuilder({ drafts, change }: Props) {
  const put = (index: number, draft: Draft) => change(drafts.map((row, other) => (other === index ? draft : row)));
  return (
    <>
      {drafts.map((draft, index) => (
        <Rule
          key={index}
          number={index + 1}
          draft={draft}
          change={(next) => put(index, next)}
          remove={drafts.length > 1 ? () => change(drafts.filter((_, other) => other !== index)) : null}
        />
      ))}
      <button type="button" class="button plain" onClick={() => change([...drafts, emptyDraft('')])}>
        <Icon name="plus" />
        Add another segment
      </button>
      {drafts.length > 1 && (
        <p class="small quiet">A customer is in the first segment whose conditions hold, and in no other.</p>
      )}
    </>
  );
}

interface RuleProps {
  number: number;
  draft: Draft;
  change: (draft: Draft) => void;
  remove: (() => void) | null;
}

function Rule({ number, draft, change, remove }: RuleProps) {
  return (
    <fieldset class="rule">
      <legend class="field-name">{`Segment ${number}`}</legend>
      <div class="field">
        <label for={`rule-name-${number}`}>Name of the segment</label>
        <input
          id={`rule-name-${number}`}
          class="input"
          required
          maxLength={200}
          placeholder="For instance: Big spenders near a shop"
          value={draft.name}
          onInput={(event) => change({ ...draft, name: event.currentTarget.value })}
        />
      </div>
      <Conditions id={`rule-${number}`} of={`segment ${number}`} draft={draft} change={change} />
      {remove && (
        <button type="button" class="button plain" onClick={remove}>
          {`Remove segment ${number}`}
        </button>
      )}
    </fieldset>
  );
}

interface ConditionsProps {
  /** Begins the ids of the fields. */
  id: string;
  /** Whose conditions they are, for those who hear the form. */
  of: string;
  draft: Draft;
  change: (draft: Draft) => void;
}

/** The conditions of one rule, their sentence, and how many customers pass them now. */
export function Conditions({ id, of, draft, change }: ConditionsProps) {
  const fields = ruleFields.value;
  const filter = filterOf(draft, fields);
  const put = (index: number, row: Row | null) =>
    change({ ...draft, rows: draft.rows.flatMap((old, other) => (other !== index ? [old] : row ? [row] : [])) });
  return (
    <>
      {draft.kept && (
        <p class="small quiet">
          This rule has conditions that the form cannot show one by one. It stays as it is; put it together anew to
          change it.
        </p>
      )}
      {draft.rows.length > 1 && (
        <div class="field">
          <label for={`${id}-join`}>A customer belongs here where</label>
          <select
            id={`${id}-join`}
            class="input"
            value={draft.join}
            onChange={(event) => change({ ...draft, join: event.currentTarget.value === 'any' ? 'any' : 'all' })}
          >
            <option value="all">all of these conditions hold</option>
            <option value="any">at least one of them holds</option>
          </select>
        </div>
      )}
      <ul class="conditions" aria-label={`Conditions of ${of}`}>
        {draft.rows.map((row, index) => (
          <li key={index}>
            <Condition
              id={`${id}-${index}`}
              number={index + 1}
              row={row}
              field={fields.get(row.field)}
              change={(next) => put(index, next)}
            />
          </li>
        ))}
      </ul>
      <FieldSelect
        id={`${id}-add`}
        label={draft.rows.length === 0 ? 'First condition' : 'One more condition'}
        choose={(field) => change({ ...draft, kept: null, rows: [...draft.rows, emptyRow(field.name, field.kind)] })}
      />
      {filter && <Count filter={filter} />}
    </>
  );
}

function FieldSelect({ id, label, choose }: { id: string; label: string; choose: (field: Field) => void }) {
  const fields = [...ruleFields.value.values()];
  const groups = [...new Set(fields.map(({ group }) => group))];
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select
        id={id}
        class="input"
        value=""
        onChange={(event) => {
          const field = ruleFields.value.get(event.currentTarget.value);
          if (field) choose(field);
          event.currentTarget.value = '';
        }}
      >
        <option value="">Choose…</option>
        {groups.map((group) => (
          <optgroup key={group} label={group}>
            {fields
              .filter((field) => field.group === group)
              .map(({ name, label: called }) => (
                <option key={name} value={name}>
                  {called}
                </option>
              ))}
          </optgroup>
        ))}
      </select>
    </div>
  );
}

const WINDOWS = [
  { value: '', name: 'in all time' },
  { value: '30', name: 'in the last 30 days' },
  { value: '90', name: 'in the last 3 months' },
  { value: '180', name: 'in the last 6 months' },
  { value: '365', name: 'in the last 12 months' },
  { value: '730', name: 'in the last 2 years' },
];

interface ConditionProps {
  id: string;
  number: number;
  row: Row;
  field: Field | undefined;
  change: (row: Row | null) => void;
}

/** The name of a part of a condition, for those who hear the form. */
const part = (field: Field | undefined, what: string): string => `${field?.label ?? 'Condition'}: ${what}`;

function Condition({ id, number, row, field, change }: ConditionProps) {
  const fault = faultOf(row, field);
  const windows = WINDOWS.some(({ value }) => value === row.window)
    ? WINDOWS
    : [...WINDOWS, { value: row.window, name: `in the last ${row.window} days` }];
  return (
    <fieldset class="condition">
      <legend class="field-name">{field?.label ?? row.field}</legend>
      <div class={field?.options ? 'condition-parts wide' : 'condition-parts'}>
        <select
          class="input"
          aria-label={part(field, 'comparison')}
          value={row.op}
          onChange={(event) => change({ ...row, op: event.currentTarget.value })}
        >
          {OPERATIONS[field?.kind ?? 'text'].map(({ value, name }) => (
            <option key={value} value={value}>
              {name}
            </option>
          ))}
        </select>
        <Value id={id} row={row} field={field} fault={fault} change={change} />
        <button
          type="button"
          class="icon-button"
          aria-label={`Remove condition ${number}: ${field?.label ?? row.field}`}
          onClick={() => change(null)}
        >
          <Icon name="close" />
        </button>
      </div>
      {field?.windowed && (
        <select
          class="input"
          aria-label={part(field, 'time')}
          value={row.window}
          onChange={(event) => change({ ...row, window: event.currentTarget.value })}
        >
          {windows.map(({ value, name }) => (
            <option key={value} value={value}>
              {name}
            </option>
          ))}
        </select>
      )}
      {fault && (
        <p id={`${id}-fault`} class="small quiet">
          {fault}
        </p>
      )}
    </fieldset>
  );
}

type ValueProps = Omit<ConditionProps, 'number'> & { fault: string | null };

function Value({ id, row, field, fault, change }: ValueProps) {
  if (!field || field.kind === 'consent') return <span />;
  if (field.options) {
    return (
      <select
        class="input"
        aria-label={part(field, 'value')}
        aria-describedby={fault ? `${id}-fault` : undefined}
        value={row.value}
        onChange={(event) => change({ ...row, value: event.currentTarget.value })}
      >
        <option value="">Choose…</option>
        {field.options.map(({ value, name }) => (
          <option key={value} value={value}>
            {name}
          </option>
        ))}
      </select>
    );
  }
  const numeric = field.kind === 'number' || field.kind === 'near';
  const unit = field.unit ? `, in ${field.unit}` : '';
  const input = (what: string, value: string, put: (text: string) => void) => {
    const rest = {
      class: 'input',
      'aria-label': part(field, what + unit),
      'aria-describedby': fault ? `${id}-fault` : undefined,
      value,
      onInput: (event: { currentTarget: HTMLInputElement }) => put(event.currentTarget.value),
    };
    return field.kind === 'day' ? (
      <input type="date" {...rest} />
    ) : (
      <input type="text" inputMode={numeric ? 'decimal' : 'text'} {...rest} />
    );
  };
  return (
    <span class="condition-value">
      {input('value', row.value, (value) => change({ ...row, value }))}
      {row.op === 'between' && input('upper end', row.upper, (upper) => change({ ...row, upper }))}
      {field.unit && <span aria-hidden="true">{field.unit}</span>}
    </span>
  );
}

/** The sentence of a rule and its live count, with what can be done with those customers. */
function Count({ filter }: { filter: object }) {
  const question = JSON.stringify(filter);
  const { data, problem, asking } = usePreview<RulePreview>(question, (signal) => previewRule(filter, signal));
  const shown = filters.value.where === question;
  if (problem) return <Failed problem={problem} />;
  return (
    <div class="rule-count" aria-busy={asking}>
      <p role="status">
        {data && !asking ? (
          <>
            <strong>
              {!data.exact && 'About '}
              {counted(data.customers, 'customer')}
            </strong>
            : {data.sentence}
          </>
        ) : (
          'Counting…'
        )}
      </p>
      {data && !data.exact && (
        <p class="small quiet">
          Told from a sample of {counted(data.looked_at, 'customer')}, because counting all takes long.
        </p>
      )}
      <div class="row-actions">
        <button type="button" class="button" onClick={() => showWhere(shown ? null : filter)}>
          {shown ? 'Show all on the map' : 'Show on the map'}
        </button>
      </div>
      {data && data.customers > 0 && <Audience condition={filter} name={data.sentence} />}
    </div>
  );
}
