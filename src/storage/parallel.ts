/** Many small tasks, a few of them at once. */

/**
 * Nothing is under way any more when it ends. After a failure no other task is begun.
 * @throws what the first task that fails throws
 */
export async function inParallel<Item>(
  items: Iterable<Item> | AsyncIterable<Item>,
  atOnce: number,
  task: (item: Item) => Promise<unknown>,
): Promise<void> {
  const left = iterate(items);
  let hasFailed = false;
  const work = async (): Promise<void> => {
    try {
      while (!hasFailed) {
        const { done, value } = await left.next();
        if (done) return;
        await task(value);
      }
    } catch (error) {
      hasFailed = true;
      throw error;
    }
  };
  const workers = Array.from({ length: atOnce }, work);
  await Promise.allSettled(workers);
  await Promise.all(workers);
}

async function* iterate<Item>(items: Iterable<Item> | AsyncIterable<Item>): AsyncGenerator<Item, undefined> {
  yield* items;
}
