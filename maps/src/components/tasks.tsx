/** What is to be done for a customer; nothing where there is nothing. */

import { useState } from 'preact/hooks';
import * as routes from '../api/routes';
import type { Task } from '../api/shapes';
import { date } from '../format';
import { useRemote, useSubmit } from '../state/remote';
import { me } from '../state/session';
import { Failed } from './states';

const mayFinish = (): boolean => me.value?.permissions.includes('customers:write') ?? false;

function when(task: Task, now = new Date()): string {
  return new Date(task.due_at) < now ? `overdue since ${date(task.due_at)}` : `due ${date(task.due_at)}`;
}

function Row({ task }: { task: Task }) {
  const [done, setDone] = useState(task.done_at !== null);
  const { busy, problem, submit } = useSubmit();

  const change = (wanted: boolean) =>
    submit(async () => {
      await (wanted ? routes.finishTask(task.id) : routes.reopenTask(task.id));
      setDone(wanted);
    });

  return (
    <li class="task">
      <div>
        <strong>{task.title}</strong>
        <p class="small quiet">
          {done ? 'done' : when(task)}
          {task.assignee.name ? ` · ${task.assignee.name}` : ''}
        </p>
        {task.details && <p class="card-note">{task.details}</p>}
      </div>
      {mayFinish() && (
        <button
          type="button"
          class="button"
          disabled={busy}
          aria-label={`${done ? 'Not done' : 'Done'}: ${task.title}`}
          onClick={() => void change(!done)}
        >
          {done ? 'Not done' : 'Done'}
        </button>
      )}
      {problem && <Failed problem={problem} />}
    </li>
  );
}

export function Tasks({ id }: { id: string }) {
  const [remote, again] = useRemote(`tasks ${id}`, (signal) => routes.tasksFor(id, signal));
  if (remote.status === 'failed') return <Failed problem={remote.problem} again={again} />;
  if (remote.status !== 'ready' || remote.data.data.length === 0) return null;
  return (
    <section class="block" aria-labelledby="card-tasks">
      <h2 id="card-tasks">To do</h2>
      <ul class="card-list">
        {remote.data.data.map((task) => (
          <Row key={task.id} task={task} />
        ))}
      </ul>
    </section>
  );
}
