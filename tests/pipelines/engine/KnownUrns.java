import java.lang.reflect.Field;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.beam.model.pipeline.v1.RunnerApi;
import org.apache.beam.runners.flink.FlinkStreamingPortablePipelineTranslator;
import org.apache.beam.sdk.util.construction.ModelCoders;
import org.apache.beam.sdk.util.construction.WindowingStrategyTranslation;
import org.apache.beam.sdk.util.construction.graph.QueryablePipeline;
import org.apache.beam.vendor.grpc.v1p60p1.com.google.protobuf.ProtocolMessageEnum;

/** Prints the URNs that this job server knows, a kind and a URN per line, as its own classes have them. */
public class KnownUrns {
  public static void main(String[] arguments) throws Exception {
    Field primitives = QueryablePipeline.class.getDeclaredField("PRIMITIVE_URNS");
    primitives.setAccessible(true);
    print("transform", (Set<?>) primitives.get(null)); // what a worker runs, or the translator
    print("transform", new FlinkStreamingPortablePipelineTranslator().knownUrns());
    print("coder", ModelCoders.urns());
    print("requirement", urns(RunnerApi.StandardRequirements.Enum.values()));
    print("state", urns(RunnerApi.StandardUserStateTypes.Enum.values()));
    print("environment", urns(RunnerApi.StandardEnvironments.Environments.values()));
    print(
        "window",
        List.of(
            WindowingStrategyTranslation.GLOBAL_WINDOWS_URN,
            WindowingStrategyTranslation.FIXED_WINDOWS_URN,
            WindowingStrategyTranslation.SLIDING_WINDOWS_URN,
            WindowingStrategyTranslation.SESSION_WINDOWS_URN));
  }

  private static Collection<String> urns(ProtocolMessageEnum[] values) {
    return Stream.of(values)
        .filter(value -> !((Enum<?>) value).name().equals("UNRECOGNIZED"))
        .map(value -> value.getValueDescriptor().getOptions().getExtension(RunnerApi.beamUrn))
        .collect(Collectors.toList());
  }

  private static void print(String kind, Collection<?> urns) {
    urns.forEach(urn -> System.out.println(kind + " " + urn));
  }
}
