/** How often an offer may be had, which of several comes first, and who is held out. */

import { CampaignField } from './campaign_field';
import { Field, TextField } from './faults';
import type { Fault, Form } from './form';

interface Props {
  form: Form;
  faults: readonly Fault[];
  change: (part: Partial<Form>) => void;
}

interface NumberProps extends Props {
  name: 'capTotal' | 'capEach' | 'priority' | 'holdOut';
  id: string;
  label: string;
  of: string;
  hint?: string;
}

const NumberField = ({ form, faults, change, name, id, label, of, hint }: NumberProps) => (
  <TextField
    id={id}
    label={label}
    faults={faults}
    of={of}
    hint={hint}
    inputMode="decimal"
    value={form[name]}
    change={(value) => change({ [name]: value })}
  />
);

export function HowOften(props: Props) {
  return (
    <fieldset class="rule">
      <legend class="field-name">How often</legend>
      <div class="pair even">
        <NumberField {...props} name="capTotal" id="offer-cap" label="In all" of="/cap_total" />
        <NumberField {...props} name="capEach" id="offer-cap-each" label="For each customer" of="/cap_per_customer" />
      </div>
      <p class="small quiet">Redemptions; empty is without a cap.</p>
      <NumberField
        {...props}
        name="priority"
        id="offer-priority"
        label="Priority"
        of="/priority"
        hint="Of several, the higher comes first."
      />
    </fieldset>
  );
}

export function HoldOut({ fixed, ...props }: Props & { fixed: boolean }) {
  const { form, faults, change } = props;
  return (
    <fieldset class="rule">
      <legend class="field-name">Hold-out</legend>
      <div class="pair even">
        <NumberField {...props} name="holdOut" id="offer-hold-out" label="Per cent" of="/hold_out_share" />
        <Field id="offer-unit" label="Of" faults={faults} of="/hold_out_unit">
          {(tied) => (
            <select
              {...tied}
              class="input"
              value={form.unit}
              onChange={(event) => change({ unit: event.currentTarget.value === 'area' ? 'area' : 'customer' })}
            >
              <option value="customer">customers</option>
              <option value="area">areas</option>
            </select>
          )}
        </Field>
      </div>
      <p class="small quiet">
        So many never see it, by lot. Only beside them can be told what the offer brings; with nobody held out, nothing
        can.
      </p>
      <CampaignField
        id="offer-campaign"
        campaign={form.campaign}
        faults={faults}
        fixed={fixed}
        change={(campaign) => change({ campaign })}
      />
    </fieldset>
  );
}
