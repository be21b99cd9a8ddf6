import ComputeVulkan
import Imaging
import Phantoms
import Rendering
import Testing

@Suite(.enabled(if: Devices.isThere)) struct ValidationTests {
    /// Scenes of every kernel under the Khronos layer with synchronisation validation: not one message.
    @Test func validationFindsNothing() async throws {
        let instance = try VulkanInstance(validation: true)
        let index = try #require(instance.devices.first { $0.refusal == nil }?.index)
        do {
            let renderer = Renderer(device: try VulkanDevice(instance, index: index))
            for exhibit in GoldenParityTests.exhibits {
                _ = try await renderer.render(exhibit.request(GoldenParityTests.volume, GoldenParityTests.companions, size: PixelSize(64, 48)))
            }
        }
        #expect(instance.messages == [])
    }
}
