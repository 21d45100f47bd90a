/** The start of the application: the theme, who is signed in, then the form or the map. */

import './design/tokens.css';
import './design/base.css';
import { render } from 'preact';
import { SignIn } from './components/sign_in';
import { Failed, Loading } from './components/states';
import { Workspace } from './components/workspace';
import { followTheme } from './design/theme';
import { askSession, session } from './state/session';

function Application() {
  const now = session.value;
  if (now.status === 'nobody') return <SignIn />;
  if (now.status === 'somebody') return <Workspace />;
  return (
    <main class="sign-in">
      <div class="sign-in-form">
        <h1>geocrm</h1>
        {now.status === 'failed' ? (
          <Failed problem={now.problem} again={() => void askSession()} />
        ) : (
          <Loading what="the session" />
        )}
      </div>
    </main>
  );
}

followTheme();
void askSession();
const root = document.getElementById('app');
if (root) render(<Application />, root);
