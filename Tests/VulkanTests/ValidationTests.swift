import ComputeVulkan
import Imaging
import Phantoms
import Rendering
import Testing

@Suite(.enabled(if: Devices.isThere)) struct ValidationTests {
    /// Scenes of every kernel under the Khronos layer with synchronisation validation: not one message.
    @Test func validationFindsNothing() async throws { try await expectSilence(of: VulkanInstance(validation: .synchronisation)) }

    /// The same with checks of every access that the layer adds to the shaders. Mesa's software driver refuses such shaders.
    @Test(.enabled(if: Devices.isHardware, "needs a GPU: software drivers refuse the layer's shaders")) func validationInShadersFindsNothing() async throws {
        try await expectSilence(of: VulkanInstance(validation: .shaders))
    }

    private func expectSilence(of instance: VulkanInstance) async throws {
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
