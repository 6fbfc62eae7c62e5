#include "jinja/scopes.h"

#include <gtest/gtest.h>

namespace mobe::jinja {
namespace {

using Hidden = std::vector<std::vector<std::string>>;

TEST(JinjaScopes, WhatIsSetFirstIsHidden) {
  Scopes scopes;
  scopes.Read("a");
  scopes.Set("a");
  scopes.Set("b");
  scopes.Read("b");
  scopes.Enter();
  scopes.Declare("c");
  scopes.Set("c");
  scopes.Set("b");  // known around it
  scopes.Set("d");
  scopes.Leave();
  EXPECT_EQ(scopes.Hidden(), (Hidden{{"b"}, {"d"}}));
}

TEST(JinjaScopes, BranchesHideNothing) {
  Scopes scopes;
  scopes.BeginBranches();
  scopes.Set("a");
  scopes.Enter();
  scopes.Set("b");
  scopes.Leave();
  scopes.EndBranches();
  scopes.Set("a");
  EXPECT_EQ(scopes.Hidden(), (Hidden{{}, {"b"}}));
}

}  // namespace
}  // namespace mobe::jinja
