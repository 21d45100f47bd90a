/** Who is signed in, how the page looks, and the way out. */

import { chooseTheme, THEME_CHOICES, themeChoice } from '../design/theme';
import { words } from '../format';
import { useSubmit } from '../state/remote';
import { me, signOut } from '../state/session';
import { show } from '../state/store';
import { Failed } from './states';

const ROLES: Readonly<Record<string, string>> = {
  administrator: 'Sees all customers, manages users, territories and imports.',
  manager: "Sees the team's customers and territories.",
  rep: 'Sees own customers and own territories.',
  marketer: 'Sees all customers; contact details only with consent.',
  analyst: 'Sees all customers; contact details are masked.',
};

export function AccountPanel() {
  const { problem, submit } = useSubmit();
  const somebody = me.value;
  return (
    <div class="blocks">
      <section class="block" aria-label="Signed in as">
        <strong class="large">{somebody?.name}</strong>
        <p>
          Role: <strong>{words(somebody?.role ?? '')}</strong>
          {somebody && somebody.teams.length > 0 && ` · Team: ${somebody.teams.map((team) => team.name).join(', ')}`}
        </p>
        <p class="small quiet">{ROLES[somebody?.role ?? ''] ?? ''}</p>
      </section>
      <section class="block" aria-labelledby="theme-title">
        <h2 id="theme-title">Appearance</h2>
        <div class="choices">
          {THEME_CHOICES.map((choice) => (
            <button
              key={choice}
              type="button"
              class="choice"
              aria-pressed={themeChoice.value === choice}
              onClick={() => chooseTheme(choice)}
            >
              {words(choice)}
            </button>
          ))}
        </div>
        <p class="small quiet">
          System follows this device. Sunlight has the strongest contrast and larger text, for reading outdoors.
        </p>
      </section>
      <section class="block" aria-label="More">
        <button type="button" class="button" onClick={() => show({ panel: 'developers', tool: null })}>
          Developers
        </button>
        <a class="button" href="/docs/">
          API documentation
        </a>
        {problem && <Failed problem={problem} />}
        <button type="button" class="button" onClick={() => void submit(signOut)}>
          Sign out
        </button>
      </section>
    </div>
  );
}
