/** What methods can be asked to do otherwise: a few choices with their usual ones; the rest is the API's. */

interface Choice {
  readonly parameter: string;
  readonly label: string;
  readonly usual: string;
  /** A value as the API takes it, and how it is called. */
  readonly options: readonly { readonly value: string | number; readonly name: string }[];
}

const WEEKS = [
  { value: 26, name: 'the next half year' },
  { value: 52, name: 'the next year' },
  { value: 104, name: 'the next two years' },
];

const CHOICES: Readonly<Record<string, readonly Choice[]>> = {
  value: [{ parameter: 'horizon_weeks', label: 'What they buy in', usual: '52', options: WEEKS }],
  churn: [
    {
      parameter: 'window_days',
      label: 'Leaving means no order in',
      usual: '180',
      options: [
        { value: 90, name: 'the next 3 months' },
        { value: 180, name: 'the next 6 months' },
        { value: 365, name: 'the next 12 months' },
      ],
    },
  ],
  hotspots: [
    {
      parameter: 'measure',
      label: 'Spots of',
      usual: 'sales',
      options: [
        { value: 'sales', name: 'what was bought in a year' },
        { value: 'customers', name: 'how many bought in a year' },
        { value: 'churn', name: 'how many stopped buying' },
      ],
    },
    {
      parameter: 'zoom',
      label: 'Size of the squares',
      usual: '11',
      options: [
        { value: 10, name: 'about 30 km' },
        { value: 11, name: 'about 15 km' },
        { value: 12, name: 'about 8 km' },
      ],
    },
  ],
};

export type Chosen = Readonly<Record<string, string | number>>;

interface Props {
  method: string;
  chosen: Chosen;
  change: (chosen: Chosen) => void;
}

export function MethodChoices({ method, chosen, change }: Props) {
  return (
    <>
      {(CHOICES[method] ?? []).map(({ parameter, label, usual, options }) => (
        <div key={parameter} class="field">
          <label for={`choice-${parameter}`}>{label}</label>
          <select
            id={`choice-${parameter}`}
            class="input"
            value={String(chosen[parameter] ?? usual)}
            onChange={(event) => {
              const found = options.find(({ value }) => String(value) === event.currentTarget.value);
              if (found) change({ ...chosen, [parameter]: found.value });
            }}
          >
            {options.map(({ value, name }) => (
              <option key={value} value={String(value)}>
                {name}
              </option>
            ))}
          </select>
        </div>
      ))}
    </>
  );
}
