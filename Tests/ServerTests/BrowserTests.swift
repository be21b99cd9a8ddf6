import Foundation
import TestSupport
import Testing

/// The page in a really running Chromium, against a really running server. Screenshots are left in `artefacts/`.
@Suite(.serialized, .enabled(if: TestData.has(RunningServer.dataSet), "needs the shared test data"),
       .enabled(if: RunningServer.hasPython, "needs the Python packages of Tests/requirements.txt"),
       .enabled(if: RunningServer.hasBrowser, "needs Chromium"))
struct BrowserTests {
    private func holds(_ scenario: String) async throws {
        let server = try await RunningServer.shared.value
        let artefacts = TestData.packageRoot.appending(path: "artefacts").path
        let (status, output) = try await server.script("Browser/page.py", scenario, ["--artefacts", artefacts, "--line-port", "\(server.linePort)"])
        #expect(status == 0, "\(output)")
    }

    @Test func modulesMergePatchesReadHeadersAndKnowTheGeometry() async throws { try await holds("modules") }
    @Test func fourPicturesAreDraggedAndEndAsTheOfflineRender() async throws { try await holds("drag") }
    @Test func presetsSlabsAndObliquePlanesEndAsTheOfflineRender() async throws { try await holds("looks") }
    @Test func whatHasNoHounsfieldUnitsIsRenderedThroughItsWindow() async throws { try await holds("magnetic") }
    @Test func everythingWorksWithTheKeyboard() async throws { try await holds("keyboard") }
    @Test func fingersScrollPinchAndPan() async throws { try await holds("touch") }
    @Test func aBrokenLineIsToldMendedAndResumed() async throws { try await holds("dropped") }
    @Test func theServerPlaysAndTheMarksFollow() async throws { try await holds("played") }
    @Test func aWindowIsAppliedHereAndEndsExact() async throws { try await holds("windowed") }
    @Test func aLinkLetsASecondBrowserFollowAndSteer() async throws { try await holds("shared") }
    @Test func aViewIsSavedAsStatePictureAndNote() async throws { try await holds("saved") }
    @Test func seriesOfTheArchiveBehindAreListedFoundAndOpened() async throws { try await holds("beyond") }
    @Test func denoisingIsASwitchAndComparisonIsLinked() async throws { try await holds("lowdose") }
    @Test func aScanOnTheServerBecomesAPictureByAClick() async throws { try await holds("reconstructed") }
    @Test func theEmbeddingExampleShowsAnExactPicture() async throws { try await holds("embedded") }
}
