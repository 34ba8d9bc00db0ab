package org.apache.beam.runners.fnexecution.control;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Map;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.BundleApplication;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.DelayedBundleApplication;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.ProcessBundleResponse;
import org.apache.beam.runners.core.StateInternalsFactory;
import org.apache.beam.runners.core.StateNamespace;
import org.apache.beam.runners.core.StateNamespaces;
import org.apache.beam.runners.core.StateTags;
import org.apache.beam.runners.core.TimerInternalsFactory;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.state.TimeDomain;
import org.apache.beam.sdk.transforms.windowing.BoundedWindow;
import org.apache.beam.sdk.util.WindowedValue;
import org.apache.beam.vendor.grpc.v1p60p1.com.google.protobuf.Duration;
import org.apache.beam.vendor.grpc.v1p60p1.com.google.protobuf.Timestamp;
import org.joda.time.Instant;

/**
 * Stands for Beam's own class of this name: written for those who call it, Flink's operators of a stream and of a batch.
 *
 * <p>They construct the handler, ask it whether a timer is one of its own, and read the rest of an element from the state
 * that has the timer's name. Their classes are pinned with those that this one stands for (pom.xml).
 */
public final class BundleCheckpointHandlers {
  private BundleCheckpointHandlers() {}

  /**
   * Keeps what is left of an element that paused, and sets the timer at which it goes on.
   *
   * <p>Names are counted within a response, so there are as few as elements that pause at once. Flink gives every name a
   * state of its own, in RocksDB a column family that is never given up, and a stream pauses ten times a second for
   * weeks. Using a name again is safe: a stream's state is kept for each element apart, and an element has one rest at a
   * time; a batch takes all rests out before it asks for more.
   */
  public static final class StateAndTimerBundleCheckpointHandler<T> implements BundleCheckpointHandler {
    private static final String PAUSED = "paused/";
    private static final String NO_FAMILY = "";

    private final TimerInternalsFactory<T> timers;
    private final StateInternalsFactory<T> states;
    private final Coder<WindowedValue<T>> values;
    private final Coder<BoundedWindow> windows;

    public StateAndTimerBundleCheckpointHandler(
        TimerInternalsFactory<T> timers,
        StateInternalsFactory<T> states,
        Coder<WindowedValue<T>> values,
        Coder<BoundedWindow> windows) {
      this.timers = timers;
      this.states = states;
      this.values = values;
      this.windows = windows;
    }

    public static boolean isSdfTimer(String timer) {
      return timer.startsWith(PAUSED);
    }

    @Override
    public void onCheckpoint(ProcessBundleResponse response) {
      int count = 0;
      for (DelayedBundleApplication rest : response.getResidualRootsList()) {
        for (WindowedValue<T> value : decoded(rest.getApplication()).explodeWindows()) {
          keep(PAUSED + count++, value, rest);
        }
      }
    }

    private WindowedValue<T> decoded(BundleApplication application) {
      try {
        return values.decode(application.getElement().newInput());
      } catch (IOException e) {
        throw new UncheckedIOException("the rest of an element cannot be decoded", e);
      }
    }

    /** `value` is in one window. */
    private void keep(String name, WindowedValue<T> value, DelayedBundleApplication rest) {
      StateNamespace namespace = StateNamespaces.window(windows, value.getWindows().iterator().next());
      states
          .stateInternalsForKey(value.getValue())
          .state(namespace, StateTags.value(name, values))
          .write(value);
      Instant due = Instant.now().plus(millis(rest.getRequestedTimeDelay())); // a batch sets its own clock to the end
      Instant hold = watermark(rest.getApplication().getOutputWatermarksMap(), value.getTimestamp());
      timers
          .timerInternalsForKey(value.getValue())
          .setTimer(namespace, name, NO_FAMILY, due, hold, TimeDomain.PROCESSING_TIME);
    }

    /** Where the watermark waits for the rest: no output of an element is older than the element. */
    private static Instant watermark(Map<String, Timestamp> reported, Instant otherwise) {
      return reported.values().stream()
          .map(time -> Instant.ofEpochMilli(millis(time.getSeconds(), time.getNanos())))
          .min(Instant::compareTo)
          .orElse(otherwise);
    }

    private static long millis(Duration delay) {
      return millis(delay.getSeconds(), delay.getNanos());
    }

    /** Not by protobuf's own tools, which refuse Beam's least and greatest times. */
    private static long millis(long seconds, int nanos) {
      return seconds * 1000 + nanos / 1_000_000;
    }
  }
}
