import { expect, test, vi } from 'vitest';
import * as routes from '../api/routes';
import type { Me } from '../api/shapes';
import { signIn, signOut } from '../state/session';
import { holdSecret, secrets, trying } from './state';

vi.mock('../state/screen', () => ({ sheet: { value: 'half' } }));
vi.mock('../state/store', () => ({ show: vi.fn() }));

test('secrets leave with who was signed in', async () => {
  vi.spyOn(routes, 'signIn').mockResolvedValue({ settings: {} } as Me);
  vi.spyOn(routes, 'signOut').mockResolvedValue();
  await signIn('ada@example.com', 'correct horse battery');
  holdSecret('key_1', 'gk_secret');
  trying.value = { token: 'gk_secret', name: 'app', scopes: [] };
  await signOut();
  expect(secrets.value).toEqual({});
  expect(trying.value.token).toBe('');
});
