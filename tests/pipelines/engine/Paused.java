import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.BundleApplication;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.DelayedBundleApplication;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.ProcessBundleResponse;
import org.apache.beam.runners.core.InMemoryStateInternals;
import org.apache.beam.runners.core.InMemoryTimerInternals;
import org.apache.beam.runners.core.StateTags;
import org.apache.beam.runners.core.TimerInternals.TimerData;
import org.apache.beam.runners.fnexecution.control.BundleCheckpointHandlers.StateAndTimerBundleCheckpointHandler;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.coders.StringUtf8Coder;
import org.apache.beam.sdk.transforms.windowing.BoundedWindow;
import org.apache.beam.sdk.transforms.windowing.GlobalWindow;
import org.apache.beam.sdk.util.WindowedValue;
import org.apache.beam.vendor.grpc.v1p60p1.com.google.protobuf.ByteString;
import org.apache.beam.vendor.grpc.v1p60p1.com.google.protobuf.Duration;
import org.apache.beam.vendor.grpc.v1p60p1.com.google.protobuf.Timestamp;
import org.joda.time.DateTimeUtils;
import org.joda.time.Instant;

/** Three elements pause, again and again; prints a line for each rest that goes on: element, pause and hold in ms. */
public class Paused {
  private static final long NOON = 43_200_000L;
  private static final Coder<WindowedValue<String>> VALUES =
      WindowedValue.getFullCoder(StringUtf8Coder.of(), GlobalWindow.Coder.INSTANCE);

  private final InMemoryStateInternals<String> states = InMemoryStateInternals.forKey("");
  private final InMemoryTimerInternals timers = new InMemoryTimerInternals();
  private final Set<String> names = new TreeSet<>();

  @SuppressWarnings({"unchecked", "rawtypes"}) // as Flink's operators call it
  private final StateAndTimerBundleCheckpointHandler<String> handler =
      new StateAndTimerBundleCheckpointHandler<String>(
          key -> timers, key -> states, VALUES, (Coder) GlobalWindow.Coder.INSTANCE);

  public static void main(String[] arguments) throws Exception {
    new Paused().run();
  }

  private void run() throws Exception {
    DateTimeUtils.setCurrentMillisFixed(NOON);
    timers.advanceProcessingTime(BoundedWindow.TIMESTAMP_MAX_VALUE); // as a batch does, so that all go on at once
    for (int round = 0; round < 100; round++) {
      handler.onCheckpoint(
          ProcessBundleResponse.newBuilder()
              .addResidualRoots(rest("a", 0, 250_000_000, BoundedWindow.TIMESTAMP_MIN_VALUE.getMillis()))
              .addResidualRoots(rest("b", 2, 0, 7_000L))
              .addResidualRoots(rest("c", 0, 0, null))
              .build());
      List<String> lines = goOn();
      if (round == 0) {
        lines.forEach(System.out::println);
      }
    }
    System.out.println("names " + names.size());
    System.out.println("others " + StateAndTimerBundleCheckpointHandler.isSdfTimer("a timer of the pipeline's own"));
  }

  private static DelayedBundleApplication rest(String element, long seconds, int nanos, Long watermarkMs)
      throws Exception {
    WindowedValue<String> value = WindowedValue.timestampedValueInGlobalWindow(element, new Instant(5_000));
    ByteString.Output bytes = ByteString.newOutput();
    VALUES.encode(value, bytes); // nested, as Beam's worker for Python sends it
    BundleApplication.Builder application = BundleApplication.newBuilder().setElement(bytes.toByteString());
    if (watermarkMs != null) {
      long second = Math.floorDiv(watermarkMs, 1000L);
      int rest = (int) Math.floorMod(watermarkMs, 1000L);
      application.putOutputWatermarks(
          "out", Timestamp.newBuilder().setSeconds(second).setNanos(rest * 1_000_000).build());
      application.putOutputWatermarks("later", Timestamp.newBuilder().setSeconds(9).build());
    }
    return DelayedBundleApplication.newBuilder()
        .setApplication(application)
        .setRequestedTimeDelay(Duration.newBuilder().setSeconds(seconds).setNanos(nanos))
        .build();
  }

  /** Take every rest out, as the operators do: the value of the state that has the timer's name. */
  private List<String> goOn() throws Exception {
    List<String> lines = new ArrayList<>();
    for (TimerData timer = timers.removeNextProcessingTimer(); timer != null; timer = timers.removeNextProcessingTimer()) {
      names.add(timer.getTimerId());
      String element =
          states.state(timer.getNamespace(), StateTags.value(timer.getTimerId(), VALUES)).read().getValue();
      long pause = timer.getTimestamp().getMillis() - NOON;
      boolean ours = StateAndTimerBundleCheckpointHandler.isSdfTimer(timer.getTimerId());
      lines.add(element + " " + pause + " " + timer.getOutputTimestamp().getMillis() + " " + ours);
    }
    return lines;
  }
}
