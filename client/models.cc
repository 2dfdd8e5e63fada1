// models list|show|import|remove: the packs that the farm can run.
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "client/read_model_file.h"
#include "client/session.h"
#include "client/text.h"
#include "core/base/digest.h"

namespace nsic {
namespace {

Result<nlohmann::json> ToJson(const v1::Model& model) {
  const nlohmann::json card = nlohmann::json::parse(model.card(), nullptr, false);
  if (card.is_discarded()) return DataLossError("the card of the model " + model.name() + " is no JSON");
  return nlohmann::json(
      {{"name", model.name()}, {"id", model.id()}, {"task", model.task()}, {"bytes", model.bundle().size()}, {"card", card}});
}

int PrintModel(Session* session, const v1::Model& model, const std::string& text) {
  if (!session->options.json) {
    session->Print(text);
    return kExitDone;
  }
  const Result<nlohmann::json> json = ToJson(model);
  if (!json.ok()) return session->Fail(json.status());
  session->PrintJson(json->dump(2));
  return kExitDone;
}

int RunList(Session* session) {
  const Status status = session->Connect(Session::Need::kLook);
  if (!status.ok()) return session->Fail(status);
  const Result<std::vector<v1::Model>> models = session->farm().ListModels(session->cancel());
  if (!models.ok()) return session->Fail(models.status());
  nlohmann::json list = nlohmann::json::array();
  std::vector<std::vector<std::string>> rows = {{"MODEL", "TASK", "ARCHITECTURE", "SCALE", "LICENCE", "ID"}};
  for (const v1::Model& model : *models) {
    if (session->options.json) {
      Result<nlohmann::json> json = ToJson(model);
      if (!json.ok()) return session->Fail(json.status());
      list.push_back(*std::move(json));
      continue;
    }
    const Result<ModelCard> card = ParseModelCard(model.card(), "the model " + model.name());
    if (!card.ok()) return session->Fail(card.status());
    rows.push_back({model.name(), model.task(), card->architecture, std::to_string(card->scale), card->licence, model.id().substr(0, 12)});
  }
  if (session->options.json) {
    session->PrintJson(nlohmann::json({{"models", std::move(list)}}).dump(2));
  } else {
    session->Print(models->empty() ? "no models: add one with nsic-client models import FILE\n" : FormatTable(rows));
  }
  return kExitDone;
}

int RunShow(Session* session, const std::string& name) {
  const Status status = session->Connect(Session::Need::kLook);
  if (!status.ok()) return session->Fail(status);
  const Result<v1::Model> model = session->farm().GetModel(name, session->cancel());
  if (!model.ok()) return session->Fail(model.status());
  return PrintModel(session, *model, "id " + ForTerminal(model->id()) + "\n" + model->card() + "\n");
}

int RunImport(Session* session, const std::string& file, const std::string& name) {
  const Result<ModelPack> pack = ReadModelFile(file, name);
  if (!pack.ok()) return session->Fail(pack.status());
  const Status status = session->Connect(Session::Need::kLook);
  if (!status.ok()) return session->Fail(status);
  const std::string bundle = BundleModelPack(*pack);
  const std::string sha256 = Sha256Hex(bundle);
  const Status sent = session->farm().blobs().UploadBytes(bundle, sha256, session->cancel());
  if (!sent.ok()) return session->Fail(sent);
  const Result<v1::Model> model = session->farm().PutModel(sha256, session->cancel());
  if (!model.ok()) return session->Fail(model.status());
  return PrintModel(
      session, *model,
      "imported " + ForTerminal(model->name()) + " (" + pack->card.architecture + ", scale " + std::to_string(pack->card.scale) + ")\n");
}

int RunRemove(Session* session, const std::string& name) {
  const Status status = session->Connect(Session::Need::kLook);
  if (!status.ok()) return session->Fail(status);
  const Status removed = session->farm().RemoveModel(name, session->cancel());
  if (!removed.ok()) return session->Fail(removed);
  if (session->options.json) {
    session->PrintJson(nlohmann::json({{"removed", name}}).dump(2));
  } else {
    session->Print("removed " + ForTerminal(name) + "\n");
  }
  return kExitDone;
}

}  // namespace

void AddModelsCommand(CLI::App* app, Session* session) {
  CLI::App* models = app->add_subcommand("models", "The models that the farm can run");
  models->require_subcommand(1);
  models->add_subcommand("list", "List them")->callback([session] { session->command = [session] { return RunList(session); }; });

  auto name = std::make_shared<std::string>();
  CLI::App* show = models->add_subcommand("show", "Show a model's card");
  show->add_option("model", *name, "Name or id")->required()->type_name("NAME");
  show->callback([session, name] { session->command = [session, name] { return RunShow(session, *name); }; });
  CLI::App* remove = models->add_subcommand("remove", "Remove a model");
  remove->add_option("model", *name, "Name or id")->required()->type_name("NAME");
  remove->callback([session, name] { session->command = [session, name] { return RunRemove(session, *name); }; });

  auto file = std::make_shared<std::string>();
  auto new_name = std::make_shared<std::string>();
  CLI::App* import = models->add_subcommand("import", "Add a model: a pack's folder, .safetensors, .pth or .pt");
  import->add_option("file", *file, "File or folder")->required()->type_name("FILE");
  import->add_option("--name", *new_name, "What to call it (default: its own name, or the file's)")->type_name("NAME");
  import->callback([session, file, new_name] {
    session->command = [session, file, new_name] { return RunImport(session, *file, *new_name);
};
}  // namespace nsic
);
}

}  // namespace nsic
