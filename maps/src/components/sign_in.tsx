/** The form to sign in, with what went wrong and how long to wait. */

import { useEffect, useRef, useState } from 'preact/hooks';
import type { Problem } from '../api/client';
import { counted } from '../format';
import { useSubmit } from '../state/remote';
import { session, signIn } from '../state/session';
import './sign_in.css';

function explain(problem: Problem, wait_s: number): string {
  if (problem.status === 401) return 'E-mail address or password is not right.';
  if (problem.status === 429) {
    return wait_s > 0
      ? `Too many attempts. Try again in ${counted(wait_s, 'second')}.`
      : 'Too many attempts. You can try again now.';
  }
  if (problem.status === 422) return 'Please enter your e-mail address and your password.';
  return problem.requestId ? `${problem.message} (request ${problem.requestId})` : problem.message;
}

export function SignIn() {
  const [email, setEmail] = useState('');
  const [password, setPassword] = useState('');
  const { busy, problem, submit } = useSubmit();
  const [wait_s, setWait] = useState(0);
  const passwordField = useRef<HTMLInputElement>(null);

  useEffect(() => {
    if (wait_s <= 0) return;
    const timer = setTimeout(() => setWait(wait_s - 1), 1000);
    return () => clearTimeout(timer);
  }, [wait_s]);

  const enter = (event: Event) => {
    event.preventDefault();
    void submit(
      () => signIn(email.trim(), password),
      (fault) => {
        setWait(fault.status === 429 ? (fault.retryAfter_s ?? 30) : 0);
        passwordField.current?.select();
        return fault;
      },
    );
  };

  const now = session.value;
  const ended = now.status === 'nobody' && now.ended;
  const wrong = problem?.status === 401 || problem?.status === 422;
  return (
    <main class="sign-in">
      <form class="sign-in-form" onSubmit={enter} aria-labelledby="sign-in-title">
        <svg class="brand-mark" viewBox="0 0 48 48" aria-hidden="true">
          <path d="M24 45S40 31.4 40 19A16 16 0 0 0 8 19c0 12.4 16 26 16 26z" />
          <circle cx="24" cy="19" r="6.5" />
        </svg>
        <h1 id="sign-in-title">Sign in to geocrm</h1>
        {ended ? (
          <p role="status">Your session has ended. Sign in to go on where you were.</p>
        ) : (
          <p class="quiet">Customers, sales and territories on one map.</p>
        )}
        <div class="field">
          <label for="email">E-mail address</label>
          <input
            id="email"
            class="input"
            type="email"
            autocomplete="username"
            required
            value={email}
            aria-invalid={wrong}
            aria-describedby={problem ? 'sign-in-problem' : undefined}
            onInput={(event) => setEmail(event.currentTarget.value)}
          />
        </div>
        <div class="field">
          <label for="password">Password</label>
          <input
            id="password"
            ref={passwordField}
            class="input"
            type="password"
            autocomplete="current-password"
            required
            value={password}
            aria-invalid={wrong}
            aria-describedby={problem ? 'sign-in-problem' : undefined}
            onInput={(event) => setPassword(event.currentTarget.value)}
          />
        </div>
        <div role="alert">
          {problem && (
            <p id="sign-in-problem" class="sign-in-problem">
              {explain(problem, wait_s)}
            </p>
          )}
        </div>
        <button type="submit" class="button primary" disabled={busy || wait_s > 0}>
          {busy ? 'Signing in…' : 'Sign in'}
        </button>
      </form>
    </main>
  );
}
