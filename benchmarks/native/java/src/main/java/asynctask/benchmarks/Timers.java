package asynctask.benchmarks;

import static asynctask.benchmarks.Main.check;

import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;

/** What is done with timers: timed, and checked. */
final class Timers {
  private static final long MILLISECOND = 1_000_000;
  private static final long SECOND = 1_000 * MILLISECOND;

  private Timers() {}

  /** Xorshift: the same numbers in each run, for each contestant, in each language. */
  private static final class Random {
    private long state = 0x9E37_79B9_7F4A_7C15L;

    long below(long bound) {
      state ^= state << 13;
      state ^= state >>> 7;
      state ^= state << 17;
      return Math.multiplyHigh(state, bound) + ((state >> 63) & bound); // unsigned
    }

    /** A minute to two: spread over a minute, and none due while it is measured. */
    long delay() {
      return 60 * SECOND + below(60 * SECOND);
    }

    long[] delays(int count) {
      var delays = new long[count];
      Arrays.setAll(delays, at -> delay());
      return delays;
    }

    void shuffle(Object[] items) {
      for (int at = items.length - 1; at > 0; at--) {
        int other = (int) below(at + 1);
        Object item = items[at];
        items[at] = items[other];
        items[other] = item;
      }
    }
  }

  private static double[] each(long took, int count) {
    return new double[] {(double) took / count};
  }

  private static void empty(Service timers, Object[] kept) {
    for (int at = 0; at < kept.length; at++) {
      check(timers.cancel(kept[at]), "lost");
      kept[at] = null;
    }
  }

  /**
   * Inserts {@code count} timers where {@code pending} are: by as many at a time as change that
   * little, which are taken out again, untimed.
   */
  static Map<String, double[]> insert(String contestant, int pending, int count) {
    var random = new Random();
    var fired = new AtomicLong();
    Service timers = Service.start(contestant);
    var kept = new Object[pending];
    Arrays.setAll(kept, at -> timers.after(random.delay(), fired::incrementAndGet));
    long[] delays = random.delays(Math.max(pending / 100, 100));
    var added = new Object[delays.length];
    long took = 0;
    int done = 0;
    while (done < count) {
      long start = System.nanoTime();
      for (int at = 0; at < delays.length; at++) {
        added[at] = timers.after(delays[at], fired::incrementAndGet);
      }
      took += System.nanoTime() - start;
      done += delays.length;
      empty(timers, added);
    }
    empty(timers, kept);
    timers.stop();
    check(fired.get() == 0, "early");
    return Map.of("ns", each(took, done));
  }

  /** Inserts one and cancels one, over {@code pending}: first the oldest, then any. */
  static Map<String, double[]> churn(String contestant, int pending, int count) {
    var random = new Random();
    var fired = new AtomicLong();
    Service timers = Service.start(contestant);
    var kept = new Object[pending];
    Arrays.setAll(kept, at -> timers.after(random.delay(), fired::incrementAndGet));
    long[] delays = random.delays(count);
    Map<String, double[]> figures = new TreeMap<>();
    for (String order : new String[] {"fifo", "random"}) {
      if (order.equals("random")) {
        random.shuffle(kept);
      }
      int cancelled = 0;
      int at = 0;
      long start = System.nanoTime();
      for (long delay : delays) {
        Object oldest = kept[at];
        kept[at] = timers.after(delay, fired::incrementAndGet);
        if (timers.cancel(oldest)) {
          cancelled++;
        }
        at = at + 1 == pending ? 0 : at + 1;
      }
      figures.put(order, each(System.nanoTime() - start, count));
      check(cancelled == count, "lost");
    }
    empty(timers, kept);
    timers.stop();
    check(fired.get() == 0, "early");
    return figures;
  }

  /**
   * Lets {@code count} timers be due at one instant, and until the last has run posts another every
   * 20 µs: how long each of those calls took.
   */
  static Map<String, double[]> storm(String contestant, int count, int firstLead)
      throws InterruptedException {
    for (long lead = firstLead * MILLISECOND; ; lead *= 2) {
      Service timers = Service.start(contestant);
      long deadline = System.nanoTime() + lead;
      var ran = new AtomicLong();
      var early = new AtomicLong();
      Runnable callback =
          () -> {
            if (System.nanoTime() < deadline) {
              early.incrementAndGet();
            }
            ran.incrementAndGet();
          };
      for (int posted = 0; posted < count; posted++) {
        timers.after(deadline - System.nanoTime(), callback);
      }
      if (deadline - System.nanoTime() < 50 * MILLISECOND) {
        timers.stop();
        continue; // too slow to have them all wait
      }
      while (deadline - System.nanoTime() > 20 * MILLISECOND) {
        LockSupport.parkNanos(deadline - System.nanoTime() - 20 * MILLISECOND);
      }
      var stalls = new double[3_000_000];
      int posts = 0;
      long next = deadline;
      while (ran.get() < count) {
        while (System.nanoTime() < next) {
          Thread.onSpinWait();
        }
        long start = System.nanoTime();
        timers.after(60 * SECOND, () -> {});
        long end = System.nanoTime();
        stalls[posts++] = end - start;
        next = end + 20_000;
        check(end < deadline + 50 * SECOND, "lost");
      }
      long took = System.nanoTime() - deadline;
      timers.stop();
      check(ran.get() == count, "twice");
      return Map.of(
          "stall", Arrays.copyOf(stalls, posts),
          "ns", each(took, count),
          "early", new double[] {early.get()});
    }
  }
}
