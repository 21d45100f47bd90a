/** Which part of a list is shown: one of several. */

interface ChoicesProps {
  of: readonly { readonly name: string }[];
  which: number;
  choose: (place: number) => void;
}

export function Choices({ of, which, choose }: ChoicesProps) {
  return (
    <div class="choices">
      {of.map(({ name }, place) => (
        <button key={name} type="button" class="choice" aria-pressed={place === which} onClick={() => choose(place)}>
          {name}
        </button>
      ))}
    </div>
  );
}
